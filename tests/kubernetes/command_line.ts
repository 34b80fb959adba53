/** The command line of scripts/kubernetes-cluster. @module */
import { Cache } from "./cluster/layout.ts";
import type { ClusterOptions } from "./cluster/options.ts";

/** What --help says. */
export const HELP =
  `scripts/kubernetes-cluster COMMAND [OPTION...]: a real Kubernetes cluster on this machine.

Every node is a set of namespaces with a kubelet and containerd of its own; the control plane has a network of its own. Nothing of
this machine's network is touched, and \`down\` leaves nothing. Root is needed. What is missing is built and downloaded by the first
\`up\` (some twenty minutes on two processors); later ones take half a minute.

Commands
  build                  make what clusters are made of, and no cluster
    --more                 and what no cluster needs: helm, the suite of network-policy-api
  up                     make what is missing, and a cluster
    --nodes N              1 to 9; default 2
    --cni none|reference   none: nodes get ready when a network comes (Weir's); reference: reference plugins and kube-proxy
                           Default none
    --dual-stack           IPv4 and IPv6
    --audit                the API server logs every request: logs/audit.log in the cluster's folder
    --keep                 leave a cluster that did not come up, to look at it
  down                   take it down, also what is left of half a one
  status                 the cluster's nodes and pods, and where its logs are
  kubectl WORD...        kubectl as the cluster's administrator
  run COMMAND...         a command of this machine in the cluster's network, with KUBECONFIG
  node I COMMAND...      a command on node I: its files, network, processes
  reboot I               cut node I's power and start it again from its disk
  api-server stop|start  end API server and etcd, start them again
  api-server keep|restore
                         keep a copy of all that the API server has, put it back to that
  import ARCHIVE...      load container images (archives of docker save, ctr images export) on every node
  e2e [OPTION...] FOCUS...
                         upstream's tests of the network whose names match a regular expression; without one, all
    --list                 only say which, and which are left out and why
    --procs N              at once; default 2
    --minutes N            then what still runs fails; default 60

Options of all commands, before the command's own words
  --name NAME            which cluster: several may run at once; default weir
  --cache DIRECTORY      where what is built stays; default $WEIR_KUBERNETES_CACHE, else .build/kubernetes

Addresses: API server 172.30.0.1:6443, nodes 172.30.0.11.., pods 10.244.0.0/16, services 10.96.0.0/16, DNS 10.96.0.10
`;

/** The command line asks for nothing that there is. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** What the words of the command line ask for. */
export interface Asked {
  command: string;
  words: string[];
  cache: Cache;
  options: ClusterOptions;
  keep: boolean;
  more: boolean;
}

/** Commands whose further words are another command's. */
const PASSED_ON = ["kubectl", "run", "node", "import", "e2e"];

/**
 * Reads the command line. Pure but for the environment's word on the cache.
 * @throws {UsageError}
 */
export function parse(args: readonly string[]): Asked {
  const words: string[] = [];
  const options: ClusterOptions = { name: "weir", nodes: 2, cni: "none", audit: false, dualStack: false };
  let cache: string | undefined, keep = false, more = false;
  const rest = [...args];
  const value = (option: string) => {
    const found = rest.shift();
    if (found === undefined) throw new UsageError(`${option} needs a value`);
    return found;
  };
  while (rest.length > 0) {
    const word = rest.shift()!;
    if (words.length > 0 && PASSED_ON.includes(words[0]) && !GENERAL.includes(word)) {
      words.push(word, ...rest.splice(0));
    } else if (word === "--name") options.name = value(word);
    else if (word === "--cache") cache = value(word);
    else if (word === "--nodes") options.nodes = nodesOf(value(word));
    else if (word === "--cni") options.cni = cniOf(value(word));
    else if (word === "--audit") options.audit = true;
    else if (word === "--dual-stack") options.dualStack = true;
    else if (word === "--keep") keep = true;
    else if (word === "--more") more = true;
    else if (word === "-h" || word === "--help") words.unshift("help");
    else if (word.startsWith("-")) throw new UsageError(`Unknown option ${word}`);
    else words.push(word);
  }
  const [command = "help", ...others] = words;
  return { command, words: others, cache: new Cache(cache), options, keep, more };
}

const GENERAL = ["--name", "--cache"];

function nodesOf(text: string): number {
  if (!/^[1-9]$/.test(text)) throw new UsageError(`--nodes is 1 to 9, not ${text}`);
  return Number(text);
}

function cniOf(text: string): "reference" | "none" {
  if (text !== "reference" && text !== "none") {
    throw new UsageError(`--cni is reference or none, not ${text}`);
  }
  return text;
}

/** What the words behind `e2e` ask for. Pure. @throws {UsageError} */
export function parseE2e(
  words: readonly string[],
): { list: boolean; procs: number; minutes: number; focus: string[] } {
  const asked = { list: false, procs: 2, minutes: 60, focus: [] as string[] };
  const rest = [...words];
  const number = (option: string, max: number) => {
    const text = rest.shift() ?? "";
    if (!/^[1-9]\d{0,3}$/.test(text) || Number(text) > max) {
      throw new UsageError(`${option} is 1 to ${max}, not ${text || "nothing"}`);
    }
    return Number(text);
  };
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === "--list") asked.list = true;
    else if (word === "--procs") asked.procs = number(word, 32);
    else if (word === "--minutes") asked.minutes = number(word, 1440);
    else if (word.startsWith("--")) throw new UsageError(`Unknown option ${word} of e2e`);
    else {
      try {
        new RegExp(word);
      } catch {
        throw new UsageError(`Not a regular expression: ${word}`);
      }
      asked.focus.push(word);
    }
  }
  return asked;
}
