/**
 * A policy with a nodeSelector in a lab of two nodes: an allow list whose drops are seen both ways by both families, pods beside it, a datapath
 * that is killed and made anew, and a policy that denies everything and cuts neither the cluster nor an open SSH connection.
 * @module
 */
import assert from "node:assert/strict";
import { processOf, signal } from "../faults/faulty_lab.ts";
import { until } from "@weir/common/testing/until";
import { at, type From } from "./service.ts";
import { canRun, Lab } from "./weir.ts";

const lab = new Lab(`hfw${Deno.pid}`);
const NODE = { node: "node-1" },
  OTHER = { node: "node-2" },
  POD = { pod: "shop/client" },
  FAR = { pod: "shop/far" };
const PODS = ["client 1", "far 2"].map((line) => {
  const [name, node] = line.split(" ");
  return `apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: shop, labels: { app: ${name} } }
spec: { nodeName: node-${node}, containers: [{ name: main, command: [sleep, infinity] }] }
`;
}).join("---\n");
const policy = (name: string, rules: string) =>
  `apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: { name: ${name} }\nspec:\n  nodeSelector: { matchLabels: { tier: edge } }\n${rules}`;
const GUARD = policy(
  "guard",
  `  ingress:
  - fromEntities: [world, cluster]
    toPorts: [{ ports: [{ port: "8080", protocol: TCP }] }]
  - icmps: [{ fields: [{ family: IPv4, type: EchoRequest }, { family: IPv6, type: EchoRequest }] }]
  egress:
  - toEntities: [all]
    toPorts: [{ ports: [{ port: "8080", protocol: TCP }] }]
`,
);
const NOTHING = policy(
  "nothing",
  `  ingressDeny: [{ fromEntities: [all] }]\n  egressDeny: [{ toEntities: [all] }]\n`,
);

/** Answers every line with itself, at all addresses of both families. */
const ECHO = `import socketserver,sys
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile: self.wfile.write(line); self.wfile.flush()
class Server(socketserver.ThreadingTCPServer):
    address_family=10; allow_reuse_address=True; daemon_threads=True
Server(("::",int(sys.argv[1])),Echo).serve_forever()
`;
/** Says a line and hears it. */
const SAY = `import socket,sys
s=socket.create_connection((sys.argv[1],int(sys.argv[2])),timeout=float(sys.argv[3])); s.sendall(b"x\\n"); assert s.recv(9)==b"x\\n"
`;
/** One connection that says a line now and then, until FILE.end is there; FILE has how often it was answered. */
const TALK = `import os,socket,sys,time
s=socket.create_connection((sys.argv[1],int(sys.argv[2])),timeout=60); n=0
while not os.path.exists(sys.argv[3]+".end"):
    s.sendall(b"x\\n"); assert s.recv(9)==b"x\\n"; n+=1
    open(sys.argv[3],"w").write(str(n)); time.sleep(0.2)
`;
const servers: Promise<unknown>[] = [];
async function serve(from: From, port: number): Promise<void> {
  servers.push(at(lab, from, ["python3", "-c", ECHO, `${port}`]));
  await until(`port ${port} is served`, () => say(from, "127.0.0.1", port));
}
async function say(from: From, address: string, port: number, seconds = 20): Promise<boolean> {
  return (await at(lab, from, ["python3", "-c", SAY, address, `${port}`, `${seconds}`])).code === 0;
}
async function passes(from: From, address: string, port: number): Promise<void> {
  assert.ok(await say(from, address, port), `${JSON.stringify(from)} to ${address} ${port}`);
}
/** Asks in vain, and a flow says so. */
async function denied(
  from: From,
  address: string,
  port: number,
  wanted: { policy: string; egress?: boolean },
): Promise<void> {
  const startedS = Date.now() / 1000;
  assert.equal(await say(from, address, port, 2), false, `${JSON.stringify(from)} to ${address} ${port}`);
  const end = wanted.egress ? "source" : "destination";
  const flow = await lab.flow(
    `the drop of ${JSON.stringify(from)} to ${address} ${port}`,
    (flow) =>
      JSON.stringify(flow).includes(`"destination_port":${port}`) && flow.IP?.destination === address &&
      Date.parse((flow as unknown as { time: string }).time) / 1000 >= startedS,
    "--verdict",
    "DROPPED",
  );
  assert.equal(flow[end]?.identity, 1, JSON.stringify(flow));
  assert.deepEqual(flow[end]?.labels, ["reserved:host"], JSON.stringify(flow));
  assert.match(JSON.stringify(flow), new RegExp(wanted.policy));
}

const NODE1 = ["172.30.0.11", "fd00:30::b"], OUTSIDE = ["172.30.0.100", "fd00:30::100"];
const e2e = (name: string, body: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn: body });

if (canRun) {
  Deno.test.beforeAll(async () => {
    await lab.up(2, `apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n---\n${PODS}`, [
      "--agent",
      "node-label=tier=edge",
    ]);
    for (const port of [8080, 9090, 22]) await serve(NODE, port);
    for (const port of [8080, 9090]) await serve("outside", port);
  });
  Deno.test.afterAll(async () => {
    await lab.down();
    await Promise.all(servers);
  });
}

e2e("a node is an endpoint, and open until a policy selects it", async () => {
  assert.match(
    await lab.ok(["endpoint", "list"]),
    /node-1 +4095 +reserved:host +ready .* open +open .*node:tier=edge/,
  );
  for (const address of NODE1) {
    for (const from of ["outside", POD, FAR] as const) await passes(from, address, 9090);
  }
});

e2e(
  "an allow list with a nodeSelector: what it does not name is dropped both ways, by both families, and says which policy",
  async () => {
    await lab.apply(GUARD);
    assert.match(
      await lab.ok(["endpoint", "list"]),
      /node-1 +4095 +reserved:host +ready .* enforced +enforced/,
    );
    for (const [family, address] of NODE1.entries()) {
      for (const from of ["outside", OTHER, POD, FAR] as const) {
        await passes(from, address, 8080);
        // (The other node has the policy too, and does not let it out.)
        await denied(from, address, 9090, { policy: "guard", egress: from === OTHER });
      }
      await passes(NODE, OUTSIDE[family], 8080);
      await denied(NODE, OUTSIDE[family], 9090, { policy: "guard", egress: true });
      const ping = await at(lab, "outside", ["ping", "-c", "1", "-W", "20", address]);
      assert.equal(ping.code, 0, ping.out);
    }
    assert.match(await lab.ok(["policy", "list"]), / guard .* 2\/2 nodes +2 /);
  },
);

e2e(
  "a datapath that is killed, and an agent's services made anew, leave no moment in which a node is open",
  async () => {
    const file = await Deno.makeTempFile();
    // A knock every few milliseconds: none may be heard.
    const KNOCK = `import socket,sys,time
heard=0; end=time.time()+float(sys.argv[3])
while time.time()<end:
    s=socket.socket(); s.settimeout(0.05)
    try: s.connect((sys.argv[1],int(sys.argv[2]))); heard+=1
    except OSError: pass
    s.close()
print(heard)
`;
    const knocking = at(lab, "outside", ["python3", "-c", KNOCK, NODE1[0], "9090", "12"]);
    for (const service of ["datapath", "endpoint-manager"]) {
      const process = await processOf(lab, "node-1", service);
      signal(process.pid, "SIGKILL");
    }
    const knocked = await knocking;
    assert.equal(knocked.code, 0, knocked.err);
    assert.equal(knocked.out.trim(), "0");
    await lab.ok(["status", "--wait", "--timeout", "300"]);
    await denied("outside", NODE1[0], 9090, { policy: "guard" });
    await passes("outside", NODE1[0], 8080);
    await Deno.remove(file);
  },
);

e2e(
  "a policy that denies everything cuts neither an open SSH connection nor the cluster, and says what let these by",
  async () => {
    const file = await Deno.makeTempFile();
    const count = async () => Number(await Deno.readTextFile(file));
    await lab.drop("ccnp:guard");
    let ended = "";
    const talking = at(lab, "outside", ["python3", "-c", TALK, NODE1[0], "22", file]).then((ran) => {
      ended = `it ended: ${ran.err}`;
    });
    await until(() => `the connection talks ${ended}`, async () => await count() > 2 || ended !== "");
    assert.equal(ended, "");
    await lab.apply(NOTHING);
    // The command ended, so the other node was heard of: its policy is in force there too.
    const before = await count();
    await until(() => `it goes on ${ended}`, async () => await count() > before + 5 || ended !== "");
    assert.equal(ended, "");
    await denied("outside", NODE1[0], 22, { policy: "nothing" });
    await denied("outside", NODE1[1], 8080, { policy: "nothing" });
    for (const address of NODE1) assert.ok(!await say(OTHER, address, 8080, 2));
    // Pods of both nodes are no hosts.
    const { status } = JSON.parse(await lab.ok(["endpoint", "get", "shop/far", "-o", "json"]));
    const ping = await at(lab, POD, ["ping", "-c", "1", "-W", "20", status.ipv4]);
    assert.equal(ping.code, 0, ping.out);
    await lab.drop("ccnp:nothing");
    await passes("outside", NODE1[0], 9090);
    await Deno.writeTextFile(`${file}.end`, "");
    await talking;
    for (const path of [file, `${file}.end`]) await Deno.remove(path);
  },
);
