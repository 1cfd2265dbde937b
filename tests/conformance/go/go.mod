module conformance

go 1.27

require ron v0.0.0

replace ron => ./sdk
