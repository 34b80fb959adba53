/**
 * Names in policy, at the node: what the L7 proxy learns of names is told to the endpoint manager as the proxy tells it, and real connections are
 * tried from the moment it answers. Names beside CIDRs, many addresses, selectors that come later, names that end while a connection
 * goes on, and everything killed while the control plane is away.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { at } from "./service.ts";
import { canRun, Lab, run } from "./weir.ts";

const lab = new Lab(`names${Deno.pid}`);
const POD = { pod: "shop/client" };
const MANIFESTS = [
  "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n",
  "apiVersion: v1\nkind: Pod\nmetadata: { name: client, namespace: shop, labels: { app: client } }\n" +
  "spec: { nodeName: node-2, containers: [{ name: main, command: [sleep, infinity] }] }\n",
].join("---\n");
/** Addresses outside, where something answers at both ports. */
const [WWW, SHARED, LATER, KEPT, NEW, OTHER] = [120, 121, 122, 123, 124, 125].map((n) => `172.30.0.${n}`);
const AROUND = "172.30.0.0/24", PORT = 8080, PORT_OF_CIDR = 8081;
const policy = (...rules: string[]) =>
  `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: names, namespace: shop }\n` +
  `spec: { endpointSelector: { matchLabels: { app: client } }, ${rules.join(", ")} }\n`;
const onPort = (port: number) => `toPorts: [{ ports: [{ port: "${port}", protocol: TCP }] }]`;
const byName = (...selectors: string[]) => `{ toFQDNs: [${selectors.join(", ")}], ${onPort(PORT)} }`;
const EXAMPLE = ["{ matchName: WWW.example.com }", '{ matchPattern: "*.example.com" }'];
const byCidr = `{ toCIDR: [${AROUND}], ${onPort(PORT_OF_CIDR)} }`;

/** Answers at both ports, each line with the same line. */
const SERVER = `import socket,threading
def talk(c):
    with c:
        while (said:=c.recv(100)): c.sendall(said)
def listen(port):
    s=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1); s.bind(('0.0.0.0',port)); s.listen(64)
    while True: threading.Thread(target=talk,args=(s.accept()[0],),daemon=True).start()
threading.Thread(target=listen,args=(${PORT_OF_CIDR},),daemon=True).start()
listen(${PORT})
`;
/** Says "yes" when the address answers, "no" when it does not within two seconds. */
const TRY = `import socket,sys
try:
    s=socket.create_connection((sys.argv[1],int(sys.argv[2])),float(sys.argv[3])); s.sendall(b'x'); print('yes' if s.recv(1)==b'x' else 'no')
except OSError: print('no')
`;
/** A connection that speaks ten times a second until its input ends; then how often it was answered, or "lost". */
const KEEP = `import select,socket,sys
s=socket.create_connection((sys.argv[1],${PORT}),20); n=0
while not select.select([sys.stdin],[],[],0.1)[0]:
    try: s.sendall(b'x'); assert s.recv(1)==b'x'; n+=1
    except Exception: print('lost'); sys.exit(1)
print(n)
`;

let server: Deno.ChildProcess | undefined;
/** Number of the pod's endpoint. */
let endpoint = 0;
if (canRun) {
  Deno.test.beforeAll(async () => {
    await lab.up(2, MANIFESTS, ["--agent", "names-min-ttl=1"]);
    await lab.inForce();
    const outside = (...command: string[]) => at(lab, "outside", command);
    const device = /dev (\S+)/.exec((await outside("ip", "-4", "route", "get", "172.30.0.11")).out)?.[1];
    for (const address of [WWW, SHARED, LATER, KEPT, NEW, OTHER]) {
      const added = await outside("ip", "address", "add", `${address}/24`, "dev", device ?? "eth0");
      assert.equal(added.code, 0, added.err);
    }
    const weir = new URL("../../scripts/weir", import.meta.url).pathname;
    server = new Deno.Command(weir, {
      args: ["--lab", lab.name, "lab", "exec", "--outside", "--", "python3", "-c", SERVER],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    const { status } = JSON.parse(await lab.ok(["endpoint", "get", "shop/client", "-o", "json"]));
    endpoint = status.id;
    await until("the outside answers", () => passes(WWW));
  });
  Deno.test.afterAll(async () => {
    await lab.down();
    await server?.status;
  });
}
const e2e = (name: string, body: () => Promise<void>) =>
  Deno.test({ name, ignore: !canRun, sanitizeOps: false, sanitizeResources: false, fn: body });

/** Whether a new connection of the pod is answered. One that is to be denied waits for two seconds. */
async function passes(address: string, port = PORT, patienceS = 20): Promise<boolean> {
  const { out } = await at(lab, POD, ["python3", "-c", TRY, address, `${port}`, `${patienceS}`]);
  return out.trim() === "yes";
}
const denied = async (address: string, port = PORT) => !await passes(address, port, 2);

const directory = `/run/weir/${lab.name}-node-2`;
async function ask(socket: string, path: string, body?: unknown) {
  const data = body === undefined ? [] : ["--data-binary", "@-", "-H", "content-type: application/json"];
  const words = [
    "-sS",
    "--max-time",
    "10",
    "-w",
    "\n%{http_code}",
    ...data,
    "--unix-socket",
    `${directory}/${socket}`,
  ];
  const { out, err } = await run(
    "curl",
    [...words, `http://weir${path}`],
    body === undefined ? "" : JSON.stringify(body),
  );
  const end = out.lastIndexOf("\n");
  // "ready" is no JSON.
  const isJson = out.startsWith("{");
  return { status: Number(out.slice(end + 1)), body: isJson ? JSON.parse(out.slice(0, end)) : {}, err };
}
const read = async (path: string) => (await ask("endpoint-manager-read.sock", path)).body;

/** As the L7 proxy says that the pod's question was answered. */
async function tell(name: string, addresses: string[], ttlS = 3600) {
  const names = [{ endpoint, name, addresses, ttlS }];
  return await ask("endpoint-manager-names.sock", "/v1/names", { names });
}
async function learn(name: string, addresses: string[], ttlS?: number): Promise<void> {
  // A machine that is slow may take longer than a question may: whoever asks again is answered.
  await until(`${name} is learnt`, async () => {
    const { status, body } = await tell(name, addresses, ttlS);
    assert.ok(status === 200 || body.code === "NAMES_NOT_IN_FORCE", JSON.stringify(body));
    return status === 200;
  });
}
async function identityOf(address: string): Promise<number> {
  for (const { addresses = [] } of (await read("/v1/names")).items ?? []) {
    const found = addresses.find((one: { address: string }) => one.address === address);
    if (found) return found.identity ?? 0;
  }
  return 0;
}
/** Processes of Weir on a node; the agent first, which would start the others anew. */
async function processes(node: string, ...roles: string[]): Promise<number[]> {
  const [listed] = JSON.parse(await lab.ok(["lab", "list", "-o", "json"]));
  return (listed.processes as { role: string; node: string; pid: number }[])
    .filter((one) => one.node === node && one.pid > 0 && one.role !== "pod")
    .filter(({ role }) => roles.length === 0 || roles.includes(role))
    .sort((a, b) => Number(b.role === "agent") - Number(a.role === "agent")).map(({ pid }) => pid);
}

e2e(
  "an address of a name that a policy means is reached as soon as its answer may go, and no other one",
  async () => {
    await lab.apply(policy(`egress: [${byName(...EXAMPLE)}]`));
    assert.ok(await denied(WWW), "nobody has heard of it");
    await learn("www.EXAMPLE.com.", [WWW]);
    assert.ok(await passes(WWW), "at the first try");
    assert.ok(await denied(WWW, PORT_OF_CIDR), "the rule has a port");
    await learn("www.example.org", [OTHER]);
    assert.ok(await denied(OTHER), "no policy means the name");
    assert.equal(await identityOf(OTHER), 0);
    await learn("api.example.com", [SHARED]);
    await learn("unrelated.example.net", [SHARED]);
    assert.ok(await passes(SHARED), "one of its two names is meant");
    const [www, shared] = [await identityOf(WWW), await identityOf(SHARED)];
    assert.notEqual(www, shared, "one is meant by both selectors");
    const { labels, base } = await read(`/v1/fqdnidentities/${www}`);
    assert.deepEqual([labels.sort(), base], [
      ["fqdn:*.example.com", "fqdn:www.example.com", "reserved:world-ipv4"].sort(),
      9,
    ]);
    const bad = await tell("www.example.com", ["nonsense"]);
    assert.deepEqual([bad.status, bad.body.code], [400, "INVALID_ARGUMENT"]);
  },
);

e2e(
  "what is said of the prefix around an address holds for the address: an allow, and a deny that wins",
  async () => {
    await lab.apply(policy(`egress: [${byName(...EXAMPLE)}, ${byCidr}]`));
    for (const port of [PORT, PORT_OF_CIDR]) assert.ok(await passes(WWW, port), `port ${port}`);
    assert.ok(await passes(OTHER, PORT_OF_CIDR) && await denied(OTHER), "the prefix alone");
    assert.equal((await read(`/v1/fqdnidentities/${await identityOf(WWW)}`)).basePrefix, AROUND);
    await lab.apply(
      policy(`egress: [${byName(...EXAMPLE)}, ${byCidr}], egressDeny: [{ toCIDR: [${SHARED}/32] }]`),
    );
    assert.ok(await denied(SHARED) && await denied(SHARED, PORT_OF_CIDR), "denied by its address");
    assert.ok(await passes(WWW));
    await lab.apply(policy(`egress: [${byName(...EXAMPLE)}]`));
    assert.ok(await passes(SHARED) && await denied(WWW, PORT_OF_CIDR));
  },
);

e2e(
  "2,000 addresses of one name share an identity, and a selector that comes later means names of before",
  async () => {
    const many = Array.from({ length: 2000 }, (_, n) => `198.18.${n >> 8}.${n & 255}`);
    const begun = performance.now();
    await learn("many.example.com", many);
    console.log(`2,000 addresses: ${(performance.now() - begun).toFixed(0)} ms`);
    const identity = await identityOf(many[1999]);
    assert.equal(identity, await identityOf(SHARED), "the same selectors, the same prefix around");
    assert.equal((await read(`/v1/fqdnidentities/${identity}`)).addresses, 2001);
    await learn("later.example.net", [LATER]);
    assert.ok(await denied(LATER));
    await lab.apply(policy(`egress: [${byName(...EXAMPLE, "{ matchName: later.example.net }")}]`));
    assert.ok(await passes(LATER), "as soon as the policy is in force");
  },
);

e2e("an address stays beyond its name's time while a connection uses it, and goes with that", async () => {
  await learn("kept.example.com", [KEPT], 20);
  const weir = new URL("../../scripts/weir", import.meta.url).pathname;
  const keeping = new Deno.Command(weir, {
    args: ["--lab", lab.name, "lab", "exec", POD.pod, "--", "python3", "-c", KEEP, KEPT],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const known = async () => {
    const { items = [] } = await read("/v1/names?query=kept.example.com");
    return items[0]?.addresses[0];
  };
  await until("it has ended, and is in use", async () => (await known())?.inUse === true);
  assert.ok(await passes(KEPT), "the name means it still");
  await keeping.stdin.close();
  const { code, stdout } = await keeping.output();
  assert.equal(code, 0);
  assert.ok(Number(new TextDecoder().decode(stdout)) > 10, "it was answered all along");
  await until("nothing uses it any more", async () => await known() === undefined);
  assert.ok(await denied(KEPT));
});

/** Lets a process go on, unless it was on its way out when it was stopped. */
function goOn(pid: number): void {
  try {
    Deno.kill(pid, "SIGCONT");
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

e2e(
  "everything of the node killed and the control plane hung: names hold at once, and new ones come",
  async () => {
    const hung = await processes("node-1"),
      before = await processes("node-2", "endpoint-manager", "datapath", "l7-proxy");
    assert.equal(before.length, 3);
    for (const pid of hung) Deno.kill(pid, "SIGSTOP");
    try {
      for (const pid of before) Deno.kill(pid, "SIGKILL");
      assert.ok(await passes(WWW) && await denied(OTHER), "the kernel has it");
      await until(
        "names are learnt again",
        async () => (await tell("new.example.com", [NEW])).status === 200,
      );
      assert.ok(await passes(NEW), "a new name, without the control plane");
      assert.ok(await passes(WWW) && await passes(LATER) && await denied(OTHER));
      assert.equal(await identityOf(NEW), await identityOf(SHARED), "under the identity of before");
    } finally {
      for (const pid of hung) goOn(pid);
    }
    await until(
      "the node is whole again",
      async () => (await ask("endpoint-manager-read.sock", "/readyz")).status === 200,
    );
    assert.ok(await passes(WWW) && await passes(NEW) && await denied(OTHER));
  },
);
