// Package e2e builds upstream's end-to-end tests of the network, as one test binary.
package e2e
