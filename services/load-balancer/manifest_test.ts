import assert from "node:assert/strict";
import { parseRange, rangeText } from "./address_range.ts";
import { tableSizeFor } from "./maglev_size.ts";
import { readManifests } from "./manifest.ts";
import { NumberPool } from "./number_pool.ts";
import { SelectorIndex } from "./selector_index.ts";

const HEAD = "apiVersion: v1\nkind: Service\nmetadata: { name: a }\nspec:\n";
const PORTS = "  ports: [{ port: 80 }]\n";

Deno.test("readManifests() refuses what Kubernetes refuses, each with its place", () => {
  const cases: [string, RegExp][] = [
    [
      "  type: Ingress\n" + PORTS,
      /5:9 spec\.type: "Ingress", want ClusterIP, NodePort, LoadBalancer, ExternalName/,
    ],
    ["  ports: []\n", /spec\.ports: ports are missing/],
    ["  ports: [{ port: 80 }, { port: 81 }]\n", /name is missing: a service of several ports names each/],
    ["  ports: [{ name: a, port: 80 }, { name: b, port: 80 }]\n", /port 80\/TCP is there twice/],
    ["  ports: [{ name: a, port: 80 }, { name: a, port: 81 }]\n", /name "a" is there twice/],
    ["  ports: [{ port: 80, protocol: ICMP }]\n", /"ICMP", want TCP, UDP or SCTP/],
    ["  ports: [{ port: 80, targetPort: 0 }]\n", /targetPort: 0, want a whole number from 1 to 65535/],
    ["  ports: [{ port: 80, targetPort: Http }]\n", /"Http" is no port name/],
    ["  clusterIP: 10.0.0.300\n" + PORTS, /"10\.0\.0\.300" is no IP address/],
    [
      "  clusterIPs: [10.0.0.1, 10.0.0.2]\n  ipFamilyPolicy: PreferDualStack\n" + PORTS,
      /two addresses of one family/,
    ],
    ["  clusterIPs: [10.0.0.1, fd00::1]\n" + PORTS, /two families with ipFamilyPolicy SingleStack/],
    [
      "  clusterIP: fd00::1\n  ipFamilies: [IPv4]\n" + PORTS,
      /ipFamilies\[0\] is IPv4, but clusterIPs\[0\] is IPv6/,
    ],
    ["  externalIPs: [127.0.0.1]\n" + PORTS, /"127\.0\.0\.1" is a loopback address/],
    ["  externalIPs: [ff02::1]\n" + PORTS, /multicast/],
    ["  loadBalancerSourceRanges: [10.0.0.0]\n" + PORTS, /want a prefix such as/],
    [
      "  sessionAffinity: ClientIP\n  sessionAffinityConfig: { clientIP: { timeoutSeconds: 90000 } }\n" +
      PORTS,
      /from 1 to 86400/,
    ],
    ["  selector: { app: 1 }\n" + PORTS, /spec\.selector\.app: 1, want a text/],
  ];
  for (const [spec, pattern] of cases) {
    const { objects, faults } = readManifests(HEAD + spec);
    const said = faults.map(({ line, column, path, detail }) => `${line}:${column} ${path}: ${detail}`).join(
      "\n",
    );
    assert.match(said, pattern, spec);
    assert.equal(objects.length, 0, spec);
  }
  const annotated = (text: string) =>
    readManifests(HEAD.replace("name: a", `name: a, annotations: { ${text} }`) + PORTS);
  assert.match(annotated("weir.io/maglev-table-size: '1000'").faults[0].detail, /want one of 251, 509/);
  assert.match(annotated("weir.io/lb-algorithm: ring").faults[0].detail, /want maglev or random/);
  const twice = readManifests(`${HEAD}${PORTS}---\n${HEAD}${PORTS}`);
  assert.match(twice.faults[0].detail, /Service default\/a is already defined at line 1/);
});

Deno.test("readManifests() reads JSON as it reads YAML, and says the same places when there is something to say", () => {
  const service = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "a" },
    spec: { ports: [{ port: 80 }] },
  };
  const list = { apiVersion: "v1", kind: "List", items: [service, { ...service, metadata: { name: "b" } }] };
  const specs = (text: string) => readManifests(text).objects.map(({ name, spec }) => ({ name, spec }));
  assert.deepEqual(specs(JSON.stringify(list)), specs("# not JSON\n" + JSON.stringify(list)));
  assert.equal(specs(JSON.stringify(list)).length, 2);
  const lines = readManifests(
    `\n${JSON.stringify(service)}\n---\n\n${JSON.stringify({ ...service, metadata: { name: "b" } })}\n`,
    { line: 10 },
  );
  assert.deepEqual(lines.objects.map(({ line }) => line), [11, 14]);
  const wrong = JSON.stringify({ ...service, spec: { ports: [{ port: 0 }] } }, null, 1);
  assert.equal(readManifests(wrong).faults[0].line, 10);
});

Deno.test("readManifests() never throws, whatever the text", () => {
  const seed = Number(Deno.env.get("WEIR_SEED") ?? 1);
  let state = seed;
  const random = (below: number) => (state = (state * 48271) % 0x7fffffff) % below;
  const text = HEAD + PORTS + "  selector: { app: a }\n---\n" + JSON.stringify({
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: "s", labels: { "kubernetes.io/service-name": "a" } },
    endpoints: [{
      addresses: ["10.0.0.1"],
      conditions: { ready: true },
      hints: { forZones: [{ name: "a" }] },
    }],
    ports: [{ port: 80 }],
  }) +
    "\n---\napiVersion: cilium.io/v2\nkind: CiliumLoadBalancerIPPool\nmetadata: { name: p }\nspec: { blocks: [{ cidr: 10.0.0.0/24 }, { start: 10.0.0.1 }] }\n";
  const pieces = [
    "null",
    "[]",
    "{}",
    "-1",
    "1e99",
    '""',
    ": ",
    "\n",
    "---\n",
    "*a",
    "&a ",
    "!!binary x",
    "kind",
    "\u0000",
    "🙂",
    "{",
    "]",
  ];
  for (let i = 0; i < 400; i++) {
    let mutated = text;
    for (let n = random(4); n >= 0; n--) {
      const at = random(mutated.length), to = Math.min(mutated.length, at + random(12));
      mutated = mutated.slice(0, at) + pieces[random(pieces.length)] + mutated.slice(to);
    }
    try {
      readManifests(mutated);
    } catch (error) {
      throw new Error(`WEIR_SEED=${seed}, text ${i}: ${JSON.stringify(mutated)}`, { cause: error });
    }
  }
});

Deno.test("readManifests() reads pools of both kinds", () => {
  const pool = (kind: string, spec: string) =>
    readManifests(
      `apiVersion: ${
        kind === "AddressPool" ? "weir.io/v1" : "cilium.io/v2alpha1"
      }\nkind: ${kind}\nmetadata: { name: p }\nspec: ${spec}\n`,
    );
  const read = (kind: string, spec: string) => pool(kind, spec).objects[0].spec;
  assert.deepEqual(
    read(
      "CiliumLoadBalancerIPPool",
      `{ blocks: [{ cidr: 10.0.0.0/24 }, { start: fd00::1, stop: fd00::9 }], allowFirstLastIPs: "No", serviceSelector: { matchLabels: { a: b }, matchExpressions: [{ key: c, operator: NotIn, values: [d, e] }] } }`,
    ),
    {
      name: "p",
      ranges: ["10.0.0.1-10.0.0.254", "fd00::1-fd00::9"],
      serviceSelector: ["a=b", "c notin (d,e)"],
      disabled: false,
    },
  );
  assert.deepEqual(
    read("AddressPool", "{ ranges: [192.0.2.0/28, 192.0.2.16-192.0.2.31, 192.0.2.40], disabled: true }"),
    {
      name: "p",
      ranges: ["192.0.2.0/28", "192.0.2.16/28", "192.0.2.40/32"],
      serviceSelector: [],
      disabled: true,
    },
  );
  assert.match(
    pool("AddressPool", "{ ranges: [10.0.0.9-10.0.0.1] }").faults[0].detail,
    /want a prefix or FIRST-LAST/,
  );
});

Deno.test("rangeText() writes a prefix where the range is one", () => {
  for (const text of ["10.0.0.0/8", "10.0.0.1/32", "10.0.0.1-10.0.0.4", "fd00::/64", "0.0.0.0/0", "::/0"]) {
    assert.equal(rangeText(parseRange(text)!), text);
  }
});

Deno.test("tableSizeFor() gives a thousand entries per backend, keeps two hundred, and is never smaller", () => {
  const cases = [
    [0, 0, 251],
    [1, 0, 1021],
    [3, 0, 4093],
    [100, 0, 131071],
    [5000, 0, 131071],
    [1, 251, 251],
    [2, 251, 2039],
    [1, 65521, 65521],
  ];
  for (const [backends, current, expected] of cases) assert.equal(tableSizeFor(backends, current), expected);
});

Deno.test("NumberPool gives the numbers for static use last, and what was given back not at once", () => {
  const pool = new NumberPool(1, 6, 3);
  assert.deepEqual([pool.takeFree("a"), pool.takeFree("b")], [3, 4]);
  pool.release(3, "b"); // not its own
  pool.release(4, "b");
  assert.deepEqual(["c", "d", "e", "f", "g", "h"].map((owner) => pool.takeFree(owner)), [
    5,
    6,
    4,
    1,
    2,
    undefined,
  ]);
  assert.equal(pool.ownerOf(3), "a");
});

Deno.test("SelectorIndex finds services by a pod's labels and pods by a selector, in their namespace", () => {
  const index = new SelectorIndex();
  index.setService("a/x", "a", { app: "x", tier: "web" });
  index.setService("a/y", "a", { tier: "web" });
  index.setService("b/x", "b", { app: "x" });
  index.setPod("a/p", "a", { app: "x", tier: "web" });
  index.setPod("a/q", "a", { tier: "web" });
  assert.deepEqual(index.servicesFor("a", { app: "x", tier: "web" }).sort(), ["a/x", "a/y"]);
  assert.deepEqual(index.servicesFor("a", { tier: "web" }), ["a/y"]);
  assert.deepEqual(index.podsFor("a", { app: "x", tier: "web" }), ["a/p"]);
  assert.deepEqual(index.podsFor("a", { tier: "web" }).sort(), ["a/p", "a/q"]);
  index.setPod("a/p", "a", { app: "z" });
  index.setService("a/y", "a", undefined);
  assert.deepEqual(index.podsFor("a", { app: "x", tier: "web" }), []);
  assert.deepEqual(index.servicesFor("a", { tier: "web" }), []);
});
