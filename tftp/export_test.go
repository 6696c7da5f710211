package tftp

// What the tests from outside share with those from inside.
var Vector, RRQ = vector, rrq
