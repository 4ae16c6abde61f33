//! Values that any two nodes can merge in any order, any number of times. Pure; the laws are proved
//! by property tests.
