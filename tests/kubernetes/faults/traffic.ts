/**
 * Traffic of pods that goes on by itself, whatever becomes of the API server, the agents or the nodes: clients are loops in
 * pods, and what became of each request is read from the pods' logs on the nodes' disks.
 *
 *     client-allowed ── a new connection each 100 ms, and one that stays ──▶ server     policy: lets in app=client-allowed alone
 *     client-denied  ── a new connection each 300 ms ──────────────────────▶ server
 *
 * @module
 */
import type { Cluster } from "../cluster/cluster.ts";
import { waitFor } from "../cluster/process.ts";
import { IMAGES } from "../parts/images.ts";
import { agnhostPod, list } from "../test_cluster.ts";

const ECHO = 9000;

/** Loops of the clients. A line is a request: what became of it, and when, in seconds since 1970. */
const LOOPS = {
  /** A connection of its own for each request, to the service. */
  short: `while :; do
    if curl -s -m 30 -o /dev/null http://$SERVER:80/hostname; then r=ok; else r=lost; fi
    echo short $r $(date +%s.%N); sleep 0.1; done`,
  /** One connection, which is made again when it breaks. */
  long: `while :; do
    if exec 3<>/dev/tcp/$SERVER/${ECHO}; then
      echo long begun $(date +%s.%N)
      while echo x >&3 && read -r -t 20 -u 3 _; do echo long ok $(date +%s.%N); sleep 0.2; done
    fi
    echo long lost $(date +%s.%N); sleep 1; done`,
  denied: `while :; do
    if curl -s -m 1 -o /dev/null http://$SERVER:80/hostname; then r=through; else r=stopped; fi
    echo denied $r $(date +%s.%N); sleep 0.3; done`,
};

/** What became of the requests of a span of time. */
export interface Counted {
  short: { ok: number; lost: number };
  long: { ok: number; lost: number };
  denied: { stopped: number; through: number };
  /** Longest time without an answer to an allowed request, seconds. */
  longestGapS: number;
}

/** The traffic of one cluster: server on node 1, clients on the last node. */
export class Traffic {
  readonly #clientNode: number;

  private constructor(readonly cluster: Cluster) {
    this.#clientNode = cluster.nodes.size;
  }

  /** Makes the pods, the policy and the service, and waits until they do what they should. */
  static async start(cluster: Cluster): Promise<Traffic> {
    const traffic = new Traffic(cluster);
    const echo = {
      name: "echo",
      image: IMAGES.agnhost,
      command: ["socat", `TCP-LISTEN:${ECHO},fork,reuseaddr`, "PIPE"],
    };
    const server = agnhostPod("server", 1, { livenessProbe: undefined }) as {
      spec: { containers: unknown[] };
    };
    server.spec.containers.push(echo);
    const policy = {
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: { name: "server" },
      spec: {
        podSelector: { matchLabels: { app: "server" } },
        policyTypes: ["Ingress"],
        ingress: [{ from: [{ podSelector: { matchLabels: { app: "client-allowed" } } }] }],
      },
    };
    const service = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "server" },
      spec: {
        selector: { app: "server" },
        ports: [{ name: "web", port: 80, targetPort: "http" }, { name: "echo", port: ECHO }],
      },
    };
    await cluster.kubectl(["apply", "-f", "-"], list(policy, service, server));
    await cluster.kubectl(["wait", "--for=condition=Ready", "--timeout=180s", "pod/server"]);
    const address = await traffic.kubectl("get", "service", "server", "-o", "jsonpath={.spec.clusterIP}");
    const client = (name: string, ...loops: (keyof typeof LOOPS)[]) => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, labels: { app: name } },
      spec: {
        nodeName: `node-${traffic.#clientNode}`,
        terminationGracePeriodSeconds: 0,
        containers: loops.map((loop) => ({
          name: loop,
          image: IMAGES.agnhost,
          command: ["bash", "-c", LOOPS[loop]],
          env: [{ name: "SERVER", value: address }],
        })),
      },
    });
    await cluster.kubectl(
      ["apply", "-f", "-"],
      list(client("client-allowed", "short", "long"), client("client-denied", "denied")),
    );
    await cluster.kubectl([
      ...["wait", "--for=condition=Ready", "--timeout=180s"],
      ...["pod/client-allowed", "pod/client-denied"],
    ]);
    await traffic.flows(nowS());
    return traffic;
  }

  kubectl(...words: string[]): Promise<string> {
    return this.cluster.kubectl(words);
  }

  /** Waits until each stream has had an answer as it should since then. */
  async flows(sinceS: number, seconds = 300): Promise<void> {
    await waitFor("traffic to flow", () => {
      const { short, long, denied } = this.counted(sinceS);
      return short.ok > 0 && long.ok > 0 && denied.stopped > 0;
    }, { seconds, everyMs: 1000 });
  }

  /** What became of requests that were answered, or given up, between two moments. Reads files alone. */
  counted(fromS: number, toS = Infinity): Counted {
    const found: Counted = {
      short: { ok: 0, lost: 0 },
      long: { ok: 0, lost: 0 },
      denied: { stopped: 0, through: 0 },
      longestGapS: 0,
    };
    let lastS = fromS;
    const rows = this.#lines().filter(({ atS }) => atS >= fromS && atS < toS).sort((a, b) => a.atS - b.atS);
    for (const { stream, result, atS } of rows) {
      if (stream === "denied") found.denied[result as "stopped"]++;
      else if (result === "ok" || result === "lost") found[stream as "short"][result]++;
      if (stream !== "short" || result !== "ok") continue;
      found.longestGapS = Math.max(found.longestGapS, atS - lastS);
      lastS = atS;
    }
    return found;
  }

  /** Lines of all lives of the clients' containers on their node's disk. */
  #lines(): { stream: string; result: string; atS: number }[] {
    const logs = `${this.cluster.directory}/node-${this.#clientNode}/var/log/pods`, found = [];
    for (const pod of Deno.readDirSync(logs)) {
      if (!pod.name.startsWith("default_client-")) continue;
      for (const container of Deno.readDirSync(`${logs}/${pod.name}`)) {
        const directory = `${logs}/${pod.name}/${container.name}`;
        for (const { name } of Deno.readDirSync(directory)) {
          for (const line of Deno.readTextFileSync(`${directory}/${name}`).split("\n")) {
            const [, stream, result, at] = /stdout F (\w+) (\w+) ([\d.]+)$/.exec(line) ?? [];
            if (stream !== undefined) found.push({ stream, result, atS: Number(at) });
          }
        }
      }
    }
    return found;
  }
}

/** Seconds since 1970, as the clients count. */
export function nowS(): number {
  return Date.now() / 1000;
}

/** A line for people. */
export function said({ short, long, denied, longestGapS }: Counted): string {
  return `${short.ok} requests answered, ${short.lost} lost, the longest pause ${
    longestGapS.toFixed(1)
  } s; ` +
    `connection that stays: ${long.ok} answers, broken ${long.lost} times; ` +
    `denied: ${denied.stopped} stopped, ${denied.through} got through`;
}
