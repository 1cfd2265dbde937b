package ron

// misspelt is for tests. To list methods has the linker keep each method of each type,
// which makes a component a quarter larger.
func misspelt(Service, []handler) error { return nil }
