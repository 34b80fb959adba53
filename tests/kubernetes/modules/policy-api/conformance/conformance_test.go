package conformance

import (
	"flag"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/network-policy-api/apis/v1beta1"
	"sigs.k8s.io/network-policy-api/conformance/tests"
	timeouts "sigs.k8s.io/network-policy-api/conformance/utils/config"
	"sigs.k8s.io/network-policy-api/conformance/utils/suite"
)

var (
	except = flag.String("except", "", "short names of tests that are left out, with commas between")
	poke   = flag.Duration("poke", 30*time.Second, "how long a probe may go on to have the wrong result")
)

// TestConformance runs upstream's suite, the experimental tests too. The flag --kubeconfig or KUBECONFIG names the cluster.
func TestConformance(t *testing.T) {
	rest, err := config.GetConfig()
	if err != nil {
		t.Fatal(err)
	}
	clientSet, err := kubernetes.NewForConfig(rest)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := client.New(rest, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v1beta1.Install(objects.Scheme()); err != nil {
		t.Fatal(err)
	}
	s := suite.New(suite.Options{
		Client:                     objects,
		ClientSet:                  clientSet,
		KubeConfig:                 *rest,
		EnableAllSupportedFeatures: true,
		SkipTests:                  strings.Split(*except, ","),
		// Where every process waits for a processor, a policy is in force later.
		TimeoutConfig: timeouts.TimeoutConfig{PokeTimeout: *poke},
	})
	s.Setup(t)
	s.Run(t, tests.ConformanceTests)
}
