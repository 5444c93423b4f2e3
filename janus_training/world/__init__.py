"""The world of janus-shapes: pictures made by a program, words about them, and a judge that is no model.

    vocabulary, outlines, dice          words and colours, polygons, repeatable chance
    scenes, compositions                what a picture shows; the split by composition
    scene_sampling, rendering           seed to scene, scene to picture
    facts, phrases, parsing             what texts state, facts to English and back
    captions, drawing_prompts           texts about a scene, and wishes for one
    answers, referring, asking, asking_yes_no, outside, questions, passages
    components, segmentation, detector  from a picture to its objects
    contact_sheet                       many pictures for people to look at

Each file imports only from those above it and from `errors`. Needs numpy and pillow alone.
"""
