"""Import of photographed heads: posed frames of a transforms.json, NeRSemble's and FaceScape's folders."""
