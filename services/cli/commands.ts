/**
 * The table of commands: what each does, its help, and where its code is. Code is loaded when it is asked for, so that
 * `weir observe` does not pay for `weir verify`.
 *
 * @module
 */
import { DUMP_NAMES, DUMPS } from "@weir/proto/dumps";
import type { Command } from "./context.ts";
import { UsageError } from "./context.ts";

/** One command. */
export interface CommandEntry {
  readonly summary: string;
  /** What `weir help NAME` prints. */
  readonly usage: string;
  readonly load: () => Promise<Command>;
}

const GLOBAL_FLAGS = `
Everywhere:
  --lab NAME       the lab that is meant (default: the only lab there is, else this host's own Weir)
  --node NAME      the node that is meant
  --server ADDR    talk to this address instead: unix:/path/to.sock, http://host:port
  -o FORM          table, wide, json or yaml

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the answer is "denied".
`;

/** Every command by its name. */
export const COMMANDS: Readonly<Record<string, CommandEntry>> = {
  status: {
    summary: "health of every service, kernel features, counts, what is in error",
    usage: `weir status [--wait] [--timeout SECONDS] [--verbose] [-o table|json|yaml]

  --wait           wait until every service is ready (up to --timeout, 60 s)
  --verbose        also kernel features, map pressure, what each service waits for
`,
    load: async () => (await import("./status.ts")).statusCommand,
  },
  endpoint: {
    summary: "workloads on the nodes: list, get, add, delete, label",
    usage: `weir endpoint list [-n NAMESPACE] [-l KEY=VALUE,...] [-w] [-o FORM]
weir endpoint get NAME
weir endpoint add NAME --netns PATH|--device IF|--cgroup PATH --label KEY=VALUE...
                  [--port NAME=80/TCP] [--ipv4 A] [--ipv6 A] [--mac M] [--container-device IF] [--wait]
weir endpoint label NAME KEY=VALUE... KEY-...        set and remove labels of a running endpoint
weir endpoint delete NAME

A pod's endpoint is called NAMESPACE/POD. A label without a source is the workload's own: it is written k8s:KEY=VALUE
when the name is NAMESPACE/POD, else unspec:KEY=VALUE.

  weir endpoint add web --cgroup /sys/fs/cgroup/system.slice/nginx.service --label app=web
`,
    load: async () => (await import("./endpoint.ts")).endpointCommand,
  },
  identity: {
    summary: "identities and the labels they stand for: list, get",
    usage: `weir identity list [-l KEY=VALUE,...] [-o FORM]
weir identity get NUMBER
`,
    load: async () => (await import("./identity.ts")).identityCommand,
  },
  policy: {
    summary: "policies: apply, get, list, delete, explain",
    usage: `weir policy apply -f FILE|DIR|- [-n NAMESPACE] [--dry-run]
weir policy list [-n NAMESPACE] [-o FORM]
weir policy get NAME [-o yaml]
weir policy delete NAME | -f FILE|DIR|-
weir policy explain --from POD --to POD --port 80/TCP [--direction ingress|egress]     exit code 3: denied

Instead of a POD: an address, world, host, multicast, broadcast (and the other entities), identity:N, or KEY=VALUE,...

Policies are CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy and NetworkPolicy, as they are written for Cilium and
Kubernetes.
`,
    load: async () => (await import("./policy.ts")).policyCommand,
  },
  service: {
    summary: "services and their backends: list, get, apply, delete, backend, pool",
    usage: `weir service apply -f FILE|DIR|- [--dry-run]
weir service list [-n NAMESPACE] [-w] [-o FORM]
weir service get NAME                    frontends, backends with their states, and what is missing and why
weir service delete NAME... | -f FILE
weir service backend NAME ADDRESS --state active|maintenance|quarantined | --weight 1-100 | --clear
weir service pool list | delete NAME     addresses for services of type LoadBalancer

Applied are Service, EndpointSlice and Endpoints as they are written for Kubernetes, and address pools:
CiliumLoadBalancerIPPool, or

  apiVersion: weir.io/v1
  kind: AddressPool
  metadata: { name: blue }
  spec: { ranges: [192.0.2.0/28, 192.0.2.40-192.0.2.50], serviceSelector: { matchLabels: { color: blue } } }

Annotations: weir.io/lb-algorithm maglev|random, weir.io/maglev-table-size, weir.io/forwarding-mode dsr|snat,
weir.io/lb-ips, weir.io/lb-sharing-key, weir.io/source-ranges-policy allow|deny; of EndpointSlices weir.io/weight.
`,
    load: async () => (await import("./service.ts")).serviceCommand,
  },
  bpf: {
    summary: `what the kernel holds now: ${DUMP_NAMES.join(", ")}, prog`,
    usage: `weir bpf MAP list [-o FORM] [--limit N]

${
      DUMPS.map(({ name, says }) => `  ${name.padEnd(15)}${says}\n`).join("")
    }  prog           programs, where they hang, what the gate said

Read from the maps of the node at the moment of asking; all nodes of a lab unless --node says which.
`,
    load: async () => (await import("./bpf.ts")).bpfCommand,
  },
  top: {
    summary: "who holds how much of what traffic fills: conntrack, nat, events, ipcache",
    usage: `weir top conntrack|nat|events|ipcache [-o FORM] [--limit N]

  conntrack, nat   entries by who opened the flow: an endpoint, the node itself, or who is outside (TOWARDS whom);
                   and how many new flows were refused because a share was used up
  events           events by who caused them, and how many were lost because a share of the ring was used up
  ipcache          prefixes by where they come from: nodes, this node, CIDRs of policies; and how many are left out

Nobody is limited while there is room: a share binds only while a table fills. weir status says DEGRADED while it does.
`,
    load: async () => (await import("./top.ts")).topCommand,
  },
  observe: {
    summary: "flows: who talked to whom, the verdict and the policy behind it",
    usage: `weir observe [filters] [-f] [-o compact|dict|json|jsonpb|table]

  -f, --follow                 go on as flows come
  --last N, --since 5m
  --pod NAMESPACE/POD, --namespace, --label, --identity, --ip, --port, --service: either end; --from-pod, --to-pod, ...: one
  --protocol, --verdict FORWARDED|DROPPED, --type drop|trace|policy-verdict, --drop-reason-desc REASON (as in weir bpf metrics)
  --not FILTER                 all but what the filter means

  weir observe --verdict DROPPED --to-pod default/deathstar-1
`,
    load: async () => (await import("./observe.ts")).observeCommand,
  },
  monitor: {
    summary: "raw events of the datapath",
    usage: "weir monitor [--type drop|trace|policy-verdict]\n",
    load: async () => (await import("./observe.ts")).monitorCommand,
  },
  verify: {
    summary: "verify an eBPF object without loading it; needs no privileges",
    usage: `weir verify OBJECT... [DIR]... [options]

  OBJECT               compiled eBPF object files; of a directory, every *.o in it
  --program NAME       only the program (or section) of this name
  --type TYPE          type of programs whose section does not say it: tc, xdp, socket, cgroup/connect4, ...
  --attach FUNCTION    what tracing programs attach to whose section names nothing that the kernel has (the loader
                       chooses it when it runs); with --program, for one of them
  --kernel RELEASE     also say what this kernel release lacks: 5.15, 6.1, 6.6, 6.12, ...
  --strict             also refuse what is safe but should not be:
                         stack that is read before it was written (WV0064)
                         a kernel address that is stored, returned, compared, cut or handed out (WV0041, 48, 49, 83)
                         an access to packet, map value or memory that is not aligned (WV0078)
                         more than half of the kernel's limit of visits (WV0218)
                         with --kernel: something that this release lacks (WV0219)
  --btf FILE           kernel types for CO-RE (default: the running kernel's, else the object's own)
  -v, --verbose        visits, states and the dearest source lines of every program
  -o FORMAT            table, json, yaml or sarif
  --explain CODE       the page about a code (WV0070), or the list of them all
`,
    load: async () => (await import("./verify.ts")).verifyCommand,
  },
  lab: {
    summary:
      "a cluster of network namespaces on this host: up, down, list, apply, delete, exec, test, status",
    usage: `weir lab up [--lab NAME] [--nodes N] [-f FILE|DIR]... [--routing tunnel|direct]
            [--agent [NODE:]OPTION[=VALUE]]...   options of the agents: --agent masquerade --agent node-1:zone=a
weir lab apply -f FILE|DIR|-...          as kubectl apply: pods, namespaces, labels, policies, services
weir lab delete -f FILE|DIR|-... | pod/[NAMESPACE/]NAME
weir lab exec [NAMESPACE/]POD -- CMD     in a pod's network namespace; passes on stdin, output and exit code
weir lab exec --node node-1 -- CMD       on a node
weir lab exec --outside -- CMD           on a host beyond the nodes
weir lab test FILE                       real traffic against a list of {from, to, port, expect: allow|deny}
weir lab status                          pods, nodes, what is not ready
weir lab list [-o json]                  labs and every process of them: role, node, pid
weir lab down [--lab NAME]               removes every trace

Of a Pod a lab takes metadata, nodeName (else it is spread), hostNetwork, serviceAccountName, container ports with their names and
host ports, command/args, which run in the pod's network namespace with the host's files, in the manifest's directory,
readinessProbe (that a port is listened on), terminationGracePeriodSeconds and lifecycle.preStop.sleep. The image is not
used. Services are in the pods' /etc/hosts as DNS would have them.

An expectation file:
  - { from: tiefighter, to: deathstar-1, port: 80/TCP, expect: allow }
  - { from: alliance/xwing, to: deathstar-1, port: 80, expect: deny }
  - { from: xwing, to: outside, port: ICMP, expect: allow, family: 6 }
`,
    load: async () => (await import("./lab.ts")).labCommand,
  },
  agent: {
    summary: "run the services of this node in the foreground; with --control-plane everything",
    usage: `weir agent [--control-plane] [--config FILE]

Needs root. Each service is a process of its own with exactly its permissions. Stopping the agent leaves the kernel's
state working; \`weir uninstall\` removes it.
`,
    load: () => Promise.reject(new UsageError("weir agent is started by scripts/weir: run it from there")),
  },
  uninstall: {
    summary: "remove everything of Weir from this host's kernel",
    usage: `weir uninstall [--instance NAME]

Removes links, programs, maps, pins, devices and routes of this host's own Weir (instance "host"). Refused while its
agent runs. Labs are removed with \`weir lab down\`.
`,
    load: async () => (await import("./uninstall.ts")).uninstallCommand,
  },
};

/** Text of `weir help` or `weir help NAME`. */
export function help(name: string | undefined): string {
  if (name !== undefined) {
    const entry = COMMANDS[name];
    if (entry === undefined) throw new UsageError(`Unknown command "${name}"`, "weir help");
    return `${entry.summary[0].toUpperCase()}${entry.summary.slice(1)}.\n\n${entry.usage}${GLOBAL_FLAGS}`;
  }
  const width = Math.max(...Object.keys(COMMANDS).map((key) => key.length));
  const lines = Object.entries(COMMANDS).map(([key, entry]) => `  ${key.padEnd(width)}   ${entry.summary}`);
  return `weir: networking, security and observability of workloads from their identity

${lines.join("\n")}

  weir help COMMAND says more.

First steps:
  weir lab up -f deploy/examples/star-wars     a lab of two nodes with the cast
  weir lab exec xwing -- curl -s deathstar...   send traffic
  weir observe -f                              watch what happens to it
${GLOBAL_FLAGS}`;
}
