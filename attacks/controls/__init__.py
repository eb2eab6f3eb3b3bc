"""Controls: what can be told about membership without the target, so that an audit does not blame the model for it."""
