//! Nothing is shared: each file beside this one is a component.
