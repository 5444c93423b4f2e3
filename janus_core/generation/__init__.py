"""What happens: noise, sampling, the decoder's steps, drawings and answers."""
