/**
 * Help of `weir policy`.
 *
 * @module
 */
import { EXPLAIN } from "./explain.ts";
import { FILES, type Manual, NAMESPACE, OUTPUT } from "./manual.ts";

const WAIT = {
  "--no-wait": "do not wait until it is in force at every node",
  "--timeout 30s": "how long to wait; then the nodes that are behind are named, exit code 1",
};

/** Of verbs whose change may be rolled back by itself. */
const CONFIRM = {
  "--confirm-within 60s":
    "the policy engine puts back what was there before after this time (up to 24h), all or nothing, unless weir policy confirm comes; also when this command, its terminal or the engine is gone meanwhile. Not for policies that come from Kubernetes, which tells them again",
};

/** Of verbs that judge files. */
const SURROUNDINGS = {
  "--cluster NAME": `name of the cluster (default "default"; of recorded flows the one that they name)`,
  "-n, --namespace NAMESPACE": "of objects that name none",
};

/** Of verbs that judge by what was recorded. */
const RECORD = {
  "--flows FILE":
    "flows as hubble observe -o jsonpb prints them (as Hubble's exporter writes them), plain or gzip; - is stdin (default: the flow history of the cluster)",
  "--since TIME":
    "only from this time on: how long ago (30m, 24h, 2d), a date, or a time with its zone (default: all of a file, 24h of the history)",
  "--until TIME": "only up to this time",
};

/** Help of `weir policy`. */
export const POLICY: Manual = {
  summary:
    "policies: apply, confirm, list, delete, explain, check, matrix, diff, preview, recommend and more",
  verbs: {
    apply: {
      says:
        "Adds or replaces policies, and waits until they are in force at every node. All files are checked before the first one is applied.",
      flags: {
        ...FILES,
        ...NAMESPACE,
        "--dry-run": "check and say what would change",
        ...CONFIRM,
        "--no-confirm":
          "no rollback, where a person at a terminal applies a policy that selects hosts: the default is --confirm-within 60s there",
        ...WAIT,
      },
    },
    list: {
      says: "Lists policies, and at how many nodes each is in force.",
      flags: {
        ...NAMESPACE,
        "-A, --all-namespaces": "of every namespace, as without -n",
        "-w, --watch": "go on and show what changes",
        ...OUTPUT,
      },
    },
    get: {
      words: "NAME",
      says: "Prints the manifest of one policy; with -o the policy and where it is in force.",
      flags: { ...NAMESPACE, ...OUTPUT },
    },
    delete: {
      words: "NAME...",
      says: "Removes policies, by name or by manifest.",
      flags: { ...FILES, ...NAMESPACE, ...CONFIRM, ...WAIT },
    },
    confirm: {
      words: "[ID]",
      says:
        "Keeps a change that was made with --confirm-within; without an ID the only one that waits. While a change waits, others of the same policies are refused, and say whose it is and until when.",
    },
    rollback: {
      words: "[ID]",
      says: "Takes a change that waits to be confirmed back now.",
    },
    pending: {
      says: "Lists changes that wait to be confirmed: whose, until when, and which policies.",
      flags: { ...OUTPUT },
    },
    "accept-database": {
      says:
        "Takes a policy database that is older than what is in force at nodes (it was lost, or restored) for the newest: its policies come into force.",
      flags: { ...WAIT },
    },
    explain: EXPLAIN.verbs[""],
    check: {
      says:
        "What is wrong or odd in manifests before anybody applies them, each with file and line: what cannot be read, selectors and port names that mean nobody, ports that no container has, rules that others cover, CIDRs of the cluster's own addresses, what hits DNS or the API server. Pods, services, nodes and namespaces come from the manifests (kubectl get pods,services,nodes,namespaces -A -o yaml), or with --live pods and nodes from the cluster. Exit code 3: there is an error or a warning; 0: nothing, or only notes.",
      flags: {
        ...FILES,
        "--live": "the cluster's pods and nodes count too, as they are now (not which ports they listen on)",
        ...SURROUNDINGS,
        "-o, --output table|json|markdown|sarif": "form of the answer",
      },
    },
    matrix: {
      says:
        "Who reaches whom, from manifests alone: policies, and the pods (or what has a template of them) and namespaces that they are about. No cluster is asked. Directories are read with those in them.",
      flags: {
        ...FILES,
        "--ports LIST": "only these, as 80/TCP,53/UDP,8000-8999/TCP (default: all)",
        ...SURROUNDINGS,
        "-o, --output table|list|json|svg": "form of the answer",
      },
    },
    diff: {
      words: "OLD NEW",
      says:
        "Which connections open and which close when the policies of NEW take the place of those of OLD (files or directories), with a pair that shows it and the rule behind it. No cluster is asked: pods come from the manifests, or are made up by the labels that selectors tell apart. Exit code 3: something opens.",
      flags: {
        "-f, --file FILE|DIR|-...": "manifests that are on both sides: namespaces, pods, other policies",
        ...SURROUNDINGS,
        "-o, --output table|json|markdown|sarif": "form of the answer",
      },
    },
    preview: {
      says:
        "Which recorded connections would be dropped that passed, and which would pass that were dropped, when policies are put in; with the rule's file and line, and what the maps of each node would take. The record is the cluster's flow history, judged against the policies in force; or a file of flows of any cluster that runs Hubble, and no cluster is asked. Exit code 3: something would be dropped that passed; 1: a map would not hold its policy.",
      flags: {
        "-f, --file FILE|DIR|-...":
          "policies that are put in, in place of those of the same names; pods' manifests give port names numbers",
        "--current FILE|DIR|-...":
          "policies that are in force (default: those of the cluster; for a file what it says of a connection stands for them)",
        ...RECORD,
        "--policy-entries-max N": "entries that a node's map of one policy holds (default 16384)",
        ...SURROUNDINGS,
        "-o, --output table|json|markdown": "form of the answer",
      },
    },
    recommend: {
      says:
        "The least policy that allows what some workloads were recorded to do, as YAML, with a comment for each rule on what it rests on: who, how many connections, first and last time, an example. What was denied is not allowed, and nothing that was not seen is.",
      flags: {
        "--for LABELS":
          "workloads with these labels: app=web,tier=front; one policy for each namespace that has some",
        ...RECORD,
        "--kind CiliumNetworkPolicy|NetworkPolicy":
          "form of the policy (default CiliumNetworkPolicy); NetworkPolicy is refused where it has no words for something",
        "--l7": "only requests of HTTP and names of DNS that were seen, where all of them were",
        ...SURROUNDINGS,
      },
    },
  },
  notes:
    `Policies are CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy and NetworkPolicy, as they are written for Cilium and
Kubernetes, and those of administrators: AdminNetworkPolicy (anp:NAME), BaselineAdminNetworkPolicy (banp:default) and
ClusterNetworkPolicy (clnp:NAME), whose tiers and priorities say which rule is asked first. A CiliumCIDRGroup is applied,
shown and deleted like a policy: prefixes that policies name by cidrGroupRef or cidrGroupSelector. Services that policies
name are listed too, as svc:NAMESPACE/NAME: the policy engine keeps these itself. A policy with the annotation
weir.dev/mode: audit drops nothing: what it alone would deny passes, and is told as AUDIT with its name (weir observe
--verdict AUDIT).
`,
};
