// Command hubble-relay is Hubble Relay, built from its Go module, to be a real client of nodes in tests.
package main

import (
	"fmt"
	"os"

	"github.com/cilium/cilium/hubble-relay/cmd"
)

func main() {
	if err := cmd.New().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
