"""The step, recorded once and repeated: the same operations, without Python modules and autograd around them."""
