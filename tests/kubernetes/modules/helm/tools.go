//go:build tools

// Package tools names the command that is built from another module as it is, for go.sum.
package tools

import _ "helm.sh/helm/v4/cmd/helm"
