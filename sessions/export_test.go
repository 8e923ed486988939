package sessions

// SignatureOperations is how many signatures the engine has made or checked to judge
// tokens.
func (e *Engine) SignatureOperations() uint64 { return e.unverified.operations.Load() }
