import assert from "node:assert/strict";
import { LabelSet, makeLabel, Prefix, type Requirement, Selector } from "@weir/common";
import { Identity, IpcacheEntry, Node } from "@weir/proto/identity";
import { readInventory } from "../offline/inventory.ts";
import { cidrPeer, peerIdentity, peerSelectorMatches } from "../policy.ts";
import { checkInventory } from "./check_inventory.ts";
import { withCluster } from "./cluster_inventory.ts";
import { peerWithin, portWithin, selectorWithin } from "./within.ts";

const SURROUNDINGS = `apiVersion: v1
kind: Pod
metadata: { name: web, namespace: shop, labels: { app: web } }
spec: { containers: [{ ports: [{ name: http, containerPort: 8080 }] }] }
status: { podIP: 10.0.1.5 }
---
apiVersion: v1
kind: Pod
metadata: { name: db, namespace: shop, labels: { app: db } }
spec: { containers: [{}] }
---
apiVersion: v1
kind: Pod
metadata: { name: coredns-1, namespace: kube-system, labels: { k8s-app: kube-dns } }
spec: { containers: [{ ports: [{ containerPort: 53, protocol: UDP }] }] }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec: { clusterIP: 10.96.0.7, selector: { app: web }, ports: [{ port: 80, targetPort: http }] }
---
apiVersion: v1
kind: Node
metadata: { name: n1 }
spec: { podCIDR: 10.0.1.0/24 }
status: { addresses: [{ type: InternalIP, address: 172.16.0.1 }] }
---
apiVersion: v1
kind: Endpoints
metadata: { name: kubernetes, namespace: default }
subsets: [{ addresses: [{ ip: 172.16.0.9 }], ports: [{ port: 6443 }] }]
`;

const cnp = (spec: string, name = "a", kind = "CiliumNetworkPolicy") =>
  `apiVersion: cilium.io/v2\nkind: ${kind}\nmetadata: { name: ${name}, namespace: shop }\nspec:\n${spec}`;
const WEB = "  endpointSelector: { matchLabels: { app: web } }\n";

function check(...texts: string[]) {
  return checkInventory(readInventory(texts.map((text, at) => ({ file: `${at}.yaml`, text }))));
}
const found = (text: string, ...more: string[]) =>
  check(text, SURROUNDINGS, ...more).findings.map(({ id, file, line }) => `${id} ${file}:${line}`);

Deno.test("checkInventory() finds each kind of fault at its line, and nothing in a sound policy", () => {
  const port = (number: string, more = "") =>
    `    toPorts: [{ ports: [{ port: "${number}", protocol: TCP }]${more} }]\n`;
  const db = "  - fromEndpoints: [{ matchLabels: { app: db } }]\n";
  const cases: [text: string, expected: string[]][] = [
    [cnp(`${WEB}  ingress:\n${db}${port("8080")}`), []],
    [cnp(`${WEB}  ingress:\n${db}${port("http")}`), []],
    [cnp("  endpointSelector: { matchLabels: { app: wbe } }\n  ingress: [{}]\n"), [
      "selects-nobody 0.yaml:5",
    ]],
    [cnp(`${WEB}  ingress:\n  - fromEndpoints:\n    - matchLabels: { app: dbb }\n`), [
      "peer-nobody 0.yaml:8",
    ]],
    [
      cnp(
        `${WEB}  ingress:\n  - fromEndpoints:\n    - matchLabels: { k8s:io.kubernetes.pod.namespace: far }\n`,
      ),
      ["peer-elsewhere 0.yaml:8"],
    ],
    [cnp(`${WEB}  ingress:\n${db}${port("80")}`), ["port-unserved 0.yaml:7"]],
    [cnp(`${WEB}  ingress:\n${db}${port("metrics")}`), ["port-name-unknown 0.yaml:7"]],
    // Who declares nothing may listen anywhere.
    [cnp(`  endpointSelector: { matchLabels: { app: db } }\n  ingress:\n${db}${port("80")}`), []],
    [cnp(`${WEB}  ingress:\n${db}  ingressDeny:\n  - fromEntities: [all]\n`), ["denied-allow 0.yaml:7"]],
    // Two denies that have a part each.
    [
      cnp(
        `${WEB}  ingress:\n  - fromEntities: [world, host]\n  ingressDeny:\n  - fromEntities: [world]\n  - fromEntities: [host]\n`,
      ),
      ["denied-allow 0.yaml:7"],
    ],
    [
      cnp(`${WEB}  ingress:\n  - fromEntities: [world, host]\n  ingressDeny:\n  - fromEntities: [world]\n`),
      [],
    ],
    [
      cnp(`${WEB}  ingress:\n${db}${port("8080", ", rules: { http: [{ method: GET }] }")}  - {}\n${db}`),
      ["bypassed-l7 0.yaml:7"],
    ],
    [cnp(`${WEB}  ingress:\n${db}${port("8080")}${db}`), ["covered-rule 0.yaml:7"]],
    [cnp(`${WEB}  ingress:\n${db}${db}`), ["covered-rule 0.yaml:8"]],
    [cnp(`${WEB}  ingress:\n  - fromCIDR: [10.0.0.0/8]\n`), ["cidr-cluster 0.yaml:7"]],
    [cnp(`${WEB}  ingress:\n  - fromCIDR: [172.16.0.1]\n`), ["cidr-cluster 0.yaml:7"]],
    [cnp(`${WEB}  ingress:\n  - fromCIDR: [192.0.2.0/24, 0.0.0.0/0]\n`), []],
    [
      cnp(
        `${WEB}  ingress:\n  - fromCIDRSet:\n    - cidr: 10.0.0.0/8\n      except: [10.0.1.0/24, 10.96.0.0/12]\n`,
      ),
      [],
    ],
    [cnp(`${WEB}  egress:\n  - toEndpoints: [{ matchLabels: { app: db } }]\n`), ["closes-dns 0.yaml:7"]],
    [
      cnp(
        `${WEB}  egress:\n  - toEndpoints: [{ matchLabels: { app: db } }]\n  - toPorts: [{ ports: [{ port: "53", protocol: UDP }] }]\n`,
      ),
      [],
    ],
    [cnp(`${WEB}  egress:\n  - {}\n`), []],
    [
      cnp(`${WEB}  egressDeny:\n  - toPorts: [{ ports: [{ port: "53", protocol: UDP }] }]\n`),
      ["denies-dns 0.yaml:7"],
    ],
    [cnp(`${WEB}  egressDeny:\n  - toEntities: [kube-apiserver]\n`), ["denies-api-server 0.yaml:7"]],
    [cnp(`${WEB}  egressDeny:\n  - toCIDR: [172.16.0.8/31]\n`), ["denies-api-server 0.yaml:7"]],
    [
      cnp(
        "  endpointSelector: { matchLabels: { k8s-app: kube-dns } }\n  ingressDeny:\n  - fromEntities: [all]\n",
        "b",
      ).replace("namespace: shop", "namespace: kube-system"),
      ["denies-dns 0.yaml:7"],
    ],
    [cnp(`${WEB}  ingress:\n  - fromCIDRSet: [{ cidrGroupRef: corp }]\n`), ["object-missing 0.yaml:7"]],
    [cnp(`${WEB}  ingress:\n${db}  enableDefaultDeny: { egress: true }\n`), ["no-effect 0.yaml:1"]],
    [cnp(`${WEB}  ingres: []\n`), ["fault 0.yaml:5", "fault 0.yaml:6"]],
  ];
  for (const [text, expected] of cases) assert.deepEqual(found(text).sort(), expected, text);
});

Deno.test("checkInventory() says what is in place of a wrong value, and which service a port is of", () => {
  const { findings } = check(
    cnp("  endpointSelector: { matchLabels: { app: wbe } }\n  ingress: [{}]\n"),
    cnp(`${WEB}  ingress:\n  - toPorts: [{ ports: [{ port: "80" }] }]\n`, "b"),
    SURROUNDINGS,
  );
  const [nobody, port] = findings;
  assert.match(nobody.action, /pods there have app=db, app=web$/);
  assert.match(port.says, /port 80\/TCP; 80 is the port of service shop\/web, whose pods have http$/);
});

Deno.test("checkInventory() compares rules across policies, and not where the outer selects fewer", () => {
  const wide = cnp("  endpointSelector: {}\n  ingressDeny:\n  - fromEntities: [all]\n", "wide");
  const web = cnp(`${WEB}  ingress:\n  - fromEntities: [world]\n`, "web");
  assert.deepEqual(found(web, wide), ["denied-allow 0.yaml:7"]);
  const narrow = cnp(`${WEB}  ingressDeny:\n  - fromEntities: [all]\n`, "narrow");
  assert.deepEqual(found(cnp("  endpointSelector: {}\n  ingress:\n  - fromEntities: [world]\n"), narrow), []);
});

Deno.test("checkInventory() holds 600 rules against each other, and a million pairs of peers, in bounded time", () => {
  const policies = Array.from({ length: 600 }, (_, at) =>
    cnp(
      `  endpointSelector: { matchLabels: { app: a${
        at % 200
      } } }\n  ingress:\n  - fromEndpoints: [{ matchLabels: { app: b${at} } }]\n`,
      `p${at}`,
    ));
  const inventory = readInventory([{ file: "many.yaml", text: policies.join("---\n") }]);
  const peers = Array.from({ length: 1500 }, (_, at) => `{ matchLabels: { app: b${at} } }`).join();
  const sections = Array.from({ length: 8 }, () => `  - fromEndpoints: [${peers}, {}]\n`).join("");
  const heavy = readInventory([{ file: "heavy.yaml", text: cnp(`${WEB}  ingress:\n${sections}`) }]);
  const started = performance.now();
  assert.equal(checkInventory(inventory).isCut, false);
  checkInventory(heavy);
  assert.ok(performance.now() - started < 5000, `${performance.now() - started} ms`);
});

Deno.test("withCluster() puts the cluster's endpoints, port names and addresses in place of manifests", () => {
  const identities = [
    Identity.create({ number: 300, labels: ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"] }),
  ];
  const addresses = [IpcacheEntry.create({
    prefix: "10.0.1.5/32",
    identity: 300,
    endpoint: "shop/web-1",
    namedPorts: [{ name: "http", port: 8080, protocol: "TCP" }],
  })];
  const nodes = [Node.create({ name: "n1", ipv4: "172.16.0.1", podCidrV4: "10.0.1.0/24" })];
  const live = (spec: string) => {
    const files = readInventory([{ file: "a.yaml", text: cnp(spec) }]);
    return checkInventory(withCluster(files, { identities, addresses, nodes }, "default")).findings.map((
      { id },
    ) => id);
  };
  const port = (text: string) =>
    `${WEB}  ingress:\n  - toPorts: [{ ports: [{ port: "${text}", protocol: TCP }] }]\n`;
  assert.deepEqual(live(port("http")), []);
  assert.deepEqual(live(port("metrics")), ["port-name-unknown"]);
  assert.deepEqual(live(port("99")), [], "who declares nothing may listen anywhere");
  assert.deepEqual(live("  endpointSelector: { matchLabels: { app: wbe } }\n  ingress: [{}]\n"), [
    "selects-nobody",
  ]);
  assert.deepEqual(live(`${WEB}  ingress:\n  - fromCIDR: [10.0.1.5]\n`), ["cidr-cluster"]);
  assert.deepEqual(live(`${WEB}  ingress:\n  - fromCIDR: [172.16.0.0/12]\n`), ["cidr-cluster"]);
});

/** Numbers that look random and repeat. */
function* random(seed: number): Generator<number, never> {
  for (;;) yield (seed = (seed * 1103515245 + 12345) % 2147483648) >>> 8;
}

Deno.test("what lies within something by its text is meant by it, of whatever labels and addresses", () => {
  const seed = Number(Deno.env.get("WEIR_SEED") ?? 7), numbers = random(seed);
  const pick = <T>(items: readonly T[]): T => items[numbers.next().value % items.length];
  const requirement = (): Requirement => {
    const operator = pick(["In", "NotIn", "Exists", "DoesNotExist"] as const);
    const values = operator === "In" || operator === "NotIn" ? [pick(["x", "y"]), pick(["x", "y", "z"])] : [];
    return { source: pick(["any", "k8s", "own"]), key: pick(["a", "b"]), operator, values };
  };
  const selector = () => Selector.of(Array.from({ length: pick([0, 1, 1, 2, 3]) }, requirement));
  const label = () => makeLabel(pick(["k8s", "own"]), pick(["a", "b"]), pick(["x", "y", "z"]));
  const sets = Array.from(
    { length: 200 },
    () => LabelSet.from(Array.from({ length: pick([0, 1, 2, 3]) }, label)),
  );
  const texts = ["10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "10.0.0.0/10", "10.0.0.0/16", "10.64.0.0/10"];
  const cidr = () => {
    const prefix = Prefix.parse(pick(texts));
    const inside = texts.map((text) => Prefix.parse(text)).filter((one) =>
      prefix.contains(one) && one.text !== prefix.text
    );
    return cidrPeer(prefix, inside.length > 0 && pick([true, false]) ? [pick(inside)] : []);
  };
  const points = texts.map((text) =>
    peerIdentity(1, LabelSet.parse([`cidr:${text}`, "reserved:world-ipv4"]))
  );
  let within = 0;
  for (let round = 0; round < 5000; round++) {
    const inner = selector(), outer = selector();
    if (selectorWithin(inner, outer)) {
      within++;
      for (const set of sets) {
        assert.ok(!inner.matches(set) || outer.matches(set), `seed ${seed}: ${inner} ${outer} ${set.key}`);
      }
    }
    const small = cidr(), large = cidr();
    if (!peerWithin(small, large)) continue;
    within++;
    for (const point of points) {
      assert.ok(
        !peerSelectorMatches(small, point) || peerSelectorMatches(large, point),
        `seed ${seed}: ${small.key} ${large.key} ${point.labels.key}`,
      );
    }
  }
  assert.ok(within > 500, String(within));
  const tcp = { protocol: 6, first: 80, last: 90, name: "" },
    named = { protocol: 6, first: 0, last: 0, name: "a" };
  assert.ok(portWithin(named, { ...tcp, first: 0, last: 65535 }) && !portWithin(named, tcp));
  assert.ok(!portWithin(tcp, { ...tcp, first: 81 }) && !portWithin({ ...tcp, protocol: 0 }, tcp));
});
