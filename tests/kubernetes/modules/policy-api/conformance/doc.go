// Package conformance builds the conformance suite of network-policy-api, as one test binary.
package conformance
