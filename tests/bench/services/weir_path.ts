/**
 * Weir in a lab of one node: services arrive through the load balancer's API, as a user's would, and the probed one leads
 * to a pod. A change is timed from the call of that API until the kernel's map has it.
 * @module
 */
import { WeirClient } from "@weir/client";
import { Process } from "@weir/proto/agent";
import { DatapathService } from "@weir/proto/datapath";
import { ApplyRequest, ApplyResponse } from "@weir/proto/loadbalancer";
import { Lab, run } from "../../e2e/weir.ts";
import { addressOf, otherBackends } from "./kube_rules.ts";
import { DIRECT_PORT, type Places, SERVER_PORT, SERVER_PORTS } from "./namespaces.ts";
import type { ChangeCost, Path } from "./path.ts";

/** What it took to add services. */
export interface WeirLoad {
  added: number;
  /** From the first call of the API until the datapath has all. */
  ms: number;
  /** System calls on maps. */
  writes: number;
  /** Of the time, what the datapath took. */
  datapathMs: number;
  memory: string;
}

/** Services in one call of the API. */
const SERVICES_PER_CALL = 1000;
const NAMESPACE = "bench";

const pod = (name: string) =>
  `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: ${NAMESPACE}, labels: { app: ${name} } }\n` +
  `spec: { nodeName: node-1, containers: [{ name: main, command: [sleep, infinity] }] }\n`;

function service(number: number): string {
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: `service-${number}`, namespace: NAMESPACE },
    spec: { type: "ClusterIP", clusterIP: addressOf(number), ports: [{ port: 80, protocol: "TCP" }] },
  });
}

function slice(number: number, part: number, addresses: string[], port: number): string {
  return JSON.stringify({
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name: `service-${number}-${part}`,
      namespace: NAMESPACE,
      labels: { "kubernetes.io/service-name": `service-${number}` },
    },
    addressType: "IPv4",
    endpoints: addresses.map((address) => ({ addresses: [address], conditions: { ready: true } })),
    ports: [{ name: "", port, protocol: "TCP" }],
  });
}

/** Weir in a lab of one node. */
export class WeirServices {
  readonly loads = new Map<number, WeirLoad>();
  readonly #lab = new Lab(`bsvc${Deno.pid}`);
  readonly #run = Deno.env.get("WEIR_RUN_DIR") ?? "/run/weir";
  #instance = "";
  #started = false;
  #loadBalancer!: WeirClient;
  #endpointManager!: WeirClient;
  #datapath!: WeirClient;
  #client = "";
  #server = "";
  #serverAddress = "";
  #size = 0;
  readonly #places: Places;

  constructor(places: Places) {
    this.#places = places;
  }

  /** Starts the lab; false (and said) when there is no load balancer in it. */
  async up(): Promise<boolean> {
    this.#started = true;
    await this.#lab.up(1, [pod("client"), pod("server")].join("---\n"));
    this.#instance = `${this.#lab.name}-node-1`;
    const socket = (name: string) => `unix:${this.#run}/${this.#instance}/${name}.sock`;
    this.#loadBalancer = new WeirClient(socket("load-balancer"));
    this.#endpointManager = new WeirClient(socket("endpoint-manager"));
    this.#datapath = new WeirClient(socket("datapath"));
    const { ready, text } = await this.#loadBalancer.readiness();
    if (!ready) {
      console.log(`SKIP weir: the load balancer is not ready: ${text}`);
      return false;
    }
    for (const name of ["client", "server"] as const) {
      const endpoint = JSON.parse(
        await this.#lab.ok(["endpoint", "get", `${NAMESPACE}/${name}`, "--node", "node-1", "-o", "json"]),
      );
      if (name === "client") this.#client = endpoint.netns;
      else [this.#server, this.#serverAddress] = [endpoint.netns, endpoint.status.ipv4];
    }
    this.#places.serve(this.#server);
    return true;
  }

  async down(): Promise<void> {
    if (this.#started) await this.#lab.down().catch((error) => console.error(error.message));
  }

  /** From pod to pod, no service asked. */
  pods(): Path {
    return {
      name: "Weir, no service",
      client: this.#client,
      address: this.#serverAddress,
      port: DIRECT_PORT,
      samples: [],
      changes: [],
    };
  }

  /** Adds services until there are `size`; the last one leads to the server. */
  async grow(size: number): Promise<Path> {
    const before = await this.#counters();
    const firstPort = SERVER_PORT + SERVER_PORTS * this.loads.size;
    const begun = performance.now();
    for (let first = this.#size + 1; first <= size; first += SERVICES_PER_CALL) {
      const documents: string[] = [];
      for (let number = first; number < Math.min(first + SERVICES_PER_CALL, size + 1); number++) {
        documents.push(service(number));
        if (number < size) {
          const addresses = otherBackends(number, SERVER_PORTS).map((b) => b.split(":")[0]);
          documents.push(slice(number, 0, addresses, 8080));
          continue;
        }
        for (let i = 0; i < SERVER_PORTS; i++) {
          documents.push(slice(number, i, [this.#serverAddress], firstPort + i));
        }
      }
      await this.#apply(documents.join("\n---\n"));
    }
    const added = size - this.#size;
    this.#size = size;
    await this.#hasAll(size);
    const after = await this.#counters();
    this.loads.set(size, {
      added,
      ms: performance.now() - begun,
      writes: after.writes - before.writes,
      datapathMs: after.ms - before.ms,
      memory: await this.#memory(),
    });
    return {
      name: "Weir",
      client: this.#client,
      address: addressOf(size),
      port: 80,
      samples: [],
      changes: [],
      change: () => this.#change(size, firstPort + SERVER_PORTS - 1),
    };
  }

  #apply(manifest: string): Promise<ApplyResponse> {
    return this.#loadBalancer.call("/v1/services:apply", {
      request: { message: ApplyRequest, value: { manifest, file: "bench", namespace: NAMESPACE } },
      response: ApplyResponse,
    });
  }

  /** Waits until the datapath has all services and the last one all its backends. */
  async #hasAll(size: number): Promise<void> {
    const services = this.#datapath.collection("services", DatapathService);
    for (let tries = 0; tries < 1200; tries++) {
      const { items } = await services.list();
      const last = items.find((s) => s.frontends.some((f) => f.address === addressOf(size)));
      const others = items.filter((s) => s.name.startsWith(`${NAMESPACE}/service-`));
      if (others.length === size && last?.status?.backends === SERVER_PORTS) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`The datapath did not get ${size} services within a minute`);
  }

  /** The last backend of the probed service goes, or comes back. */
  async #change(size: number, port: number): Promise<ChangeCost> {
    const waiting = new Deno.Command(this.#places.load, {
      args: ["wait", `/sys/fs/bpf/weir/${this.#instance}/maps`, addressOf(size), "80"],
      stdout: "piped",
    }).spawn();
    const lines = waiting.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const backends = Number((await lines.read()).value);
    const addresses = backends === SERVER_PORTS ? [] : [this.#serverAddress];
    const before = await this.#counters();
    const begunMs = performance.timeOrigin + performance.now();
    await this.#apply(slice(size, SERVER_PORTS - 1, addresses, port));
    const [, atNs] = ((await lines.read()).value ?? "").trim().split(" ");
    await waiting.status;
    // The kernel has it before the answer to the endpoint manager is counted.
    let after = await this.#counters();
    for (let tries = 0; tries < 100 && after.updates === before.updates; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      after = await this.#counters();
    }
    return { ms: Number(atNs) / 1e6 - begunMs, writes: after.writes - before.writes };
  }

  /** What the endpoint manager counted of the datapath's answers. */
  async #counters(): Promise<{ updates: number; writes: number; ms: number }> {
    const text = await (await this.#endpointManager.send("/metrics")).text();
    const value = (name: string) => Number(new RegExp(`^${name} (.*)$`, "m").exec(text)?.[1] ?? 0);
    return {
      updates: value("weir_service_updates"),
      writes: value("weir_service_map_writes"),
      ms: value("weir_service_update_seconds") * 1000,
    };
  }

  /** Resident memory of the processes, and of the service maps. */
  async #memory(): Promise<string> {
    const agent = new WeirClient(`unix:${this.#run}/${this.#instance}/agent.sock`);
    const parts: string[] = [];
    for (const { name, pid } of (await agent.collection("processes", Process).list()).items) {
      const kib = /VmRSS:\s+(\d+)/.exec(await Deno.readTextFile(`/proc/${pid}/status`))?.[1];
      if (["datapath", "load-balancer", "endpoint-manager", "flow-exporter"].includes(name)) {
        parts.push(`${name} ${(Number(kib) / 1024).toFixed(0)} MiB`);
      }
    }
    agent.close();
    const bytes = await this.#mapBytes();
    if (bytes > 0) parts.push(`service maps ${(bytes / 1048576).toFixed(1)} MiB`);
    return parts.join(", ");
  }

  /** Memory of this instance's maps of services, the selections' own maps included. */
  async #mapBytes(): Promise<number> {
    const pins = `/sys/fs/bpf/weir/${this.#instance}/maps`;
    const shown = await run("bpftool", ["map", "show", "-j"]);
    const dump = await run("bpftool", ["map", "dump", "pinned", `${pins}/weir_selections`]);
    if (shown.code !== 0 || dump.code !== 0) return 0;
    const ids = new Set([...dump.out.matchAll(/inner_map_id:?\s*(\d+)/g)].map(([, id]) => Number(id)));
    for (const name of ["weir_frontends", "weir_backends", "weir_selections"]) {
      const one = await run("bpftool", ["map", "show", "pinned", `${pins}/${name}`, "-j"]);
      if (one.code === 0) ids.add(JSON.parse(one.out).id);
    }
    const maps = JSON.parse(shown.out) as { id: number; bytes_memlock?: number }[];
    return maps.reduce((sum, map) => sum + (ids.has(map.id) ? map.bytes_memlock ?? 0 : 0), 0);
  }
}
