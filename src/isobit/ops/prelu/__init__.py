"""prelu: x above zero, a slope times x below."""
