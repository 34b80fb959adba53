import assert from "node:assert/strict";
import { LabelSet } from "@weir/common";
import { IpcacheEntry, Node } from "@weir/proto/identity";
import { readManifests } from "./manifest.ts";
import { PolicyRepository } from "./policy_repository.ts";
import { PolicySelections } from "./policy_selection.ts";

const COMMON = ["k8s:io.kubernetes.pod.namespace=default", "k8s:io.cilium.k8s.policy.cluster=default"];

/** Two endpoints of web, of which one has two addresses, and one of client. */
function look(spec: string, stored: string[] = [], addressed = false) {
  const repository = new PolicyRepository();
  for (const [number, app] of [[1000, "web"], [1001, "client"], [1002, "gone"]] as const) {
    const address = addressed ? [`cidr:10.0.1.${number - 998}/32`] : [];
    repository.upsertIdentity(number, LabelSet.parse([`k8s:app=${app}`, ...COMMON, ...address]));
  }
  const endpoints = [
    ["10.0.1.1/32", 1000, "default/web-1"],
    ["fd00::1/128", 1000, "default/web-1"],
    ["10.0.1.2/32", 1000, "default/web-2"],
    ["10.0.1.3/32", 1001, "default/client"],
  ].map(([prefix, identity, endpoint]) =>
    IpcacheEntry.create(
      { prefix, identity, endpoint, node: endpoint === "default/web-2" ? "node-2" : "node-1" } as Partial<
        IpcacheEntry
      >,
    )
  );
  for (const { prefix, identity } of endpoints) {
    const ports = identity === 1000 ? [{ name: "http", port: 8080, protocol: "TCP" }] : [];
    repository.setNamedPorts(prefix, identity, ports);
  }
  const nodes = [
    Node.create({ name: "node-1", ipv4: "172.30.0.11", podCidrV4: "10.0.1.0/24", labels: ["tier=edge"] }),
  ];
  const read = (spec: string, name: string) => {
    const text = `{apiVersion: cilium.io/v2, kind: ${
      spec.includes("nodeSelector") ? "CiliumClusterwideNetworkPolicy" : "CiliumNetworkPolicy"
    }, metadata: {name: ${name}}, spec: ${spec}}`;
    const { policies, faults } = readManifests(text);
    assert.deepEqual(faults, []);
    return policies[0];
  };
  for (const [index, spec] of stored.entries()) repository.upsertPolicy(read(spec, `stored-${index}`));
  const { endpoints: count, warnings, nodes: on } = new PolicySelections(repository, { endpoints, nodes }).of(
    read(spec, "asked"),
  );
  assert.deepEqual(on, count === 0 ? [] : count === 1 ? ["node-1"] : ["node-1", "node-2"]);
  return { count, warnings: warnings.map(({ path, detail }) => `${path}: ${detail}`) };
}

const WEB = "endpointSelector: {matchLabels: {app: web}}";

Deno.test("PolicySelections counts endpoints and not addresses", () => {
  assert.deepEqual(look(`{${WEB}, ingress: [{}]}`), { count: 2, warnings: [] });
  assert.equal(look(`{endpointSelector: {}, ingress: [{}]}`).count, 3);
});

Deno.test("PolicySelections says who is meant by nothing", () => {
  assert.deepEqual(look(`{endpointSelector: {matchLabels: {app: wbe}}, ingress: [{}]}`), {
    count: 0,
    warnings: ["spec.endpointSelector: no endpoint has app=wbe,k8s:io.kubernetes.pod.namespace=default"],
  });
  assert.equal(look(`{endpointSelector: {matchLabels: {app: gone}}, ingress: [{}]}`).count, 0);
});

Deno.test("PolicySelections says port names that nobody has", () => {
  const port = (name: string) =>
    look(`{${WEB}, ingress: [{fromEndpoints: [{}], toPorts: [{ports: [{port: ${name}, protocol: TCP}]}]}]}`)
      .warnings;
  assert.deepEqual(port("http"), []);
  assert.deepEqual(port("htpp"), ["spec.ingress[0]: no endpoint that it selects has a TCP port named htpp"]);
});

Deno.test("PolicySelections says prefixes that cover pods or nodes", () => {
  const cidr = (prefix: string) => look(`{${WEB}, ingress: [{fromCIDR: [${prefix}]}]}`).warnings;
  assert.match(
    cidr("10.0.0.0/8").join(),
    /10\.0\.0\.0\/8 covers pods of node-1 \(10\.0\.1\.0\/24\): a CIDR rule does not allow/,
  );
  assert.match(cidr("10.0.1.3/32").join(), /covers pods of node-1/);
  assert.match(cidr("172.30.0.11/32").join(), /covers node node-1/);
  assert.deepEqual(cidr("192.0.2.0/24"), []);
  assert.deepEqual(cidr("0.0.0.0/0"), []);
  // Where pods count, nodes do not yet.
  const counting = (prefix: string) =>
    look(`{${WEB}, ingress: [{fromCIDR: [${prefix}]}]}`, [], true).warnings;
  assert.deepEqual(counting("10.0.1.3/32"), []);
  assert.match(counting("172.30.0.11/32").join(), /covers node node-1/);
});

Deno.test("PolicySelections says egress that closes DNS, unless another policy opens it", () => {
  const client = "endpointSelector: {matchLabels: {app: client}}";
  const egress =
    `{${client}, egress: [{toEndpoints: [{matchLabels: {app: web}}], toPorts: [{ports: [{port: "80", protocol: TCP}]}]}]}`;
  const dns = `{${client}, egress: [{toEntities: [all], toPorts: [{ports: [{port: "53", protocol: UDP}]}]}]}`;
  assert.match(look(egress).warnings.join(), /nothing allows 53\/UDP/);
  assert.deepEqual(look(egress, [dns]).warnings, []);
  assert.deepEqual(look(`{${client}, egress: [{toEndpoints: [{}]}]}`).warnings, []);
  assert.deepEqual(look(`{${client}, egress: [{}]}`).warnings, [], "closed on purpose");
});

Deno.test("PolicySelections says of toFQDNs whose addresses nobody can learn, and why", () => {
  const dns = (rules: string) =>
    `{toEndpoints: [{}], toPorts: [{ports: [{port: "53", protocol: ANY}]${rules}}]}`;
  const names = `{toFQDNs: [{matchName: www.example.com}, {matchPattern: "*.example.org"}]}`;
  const spec = (...egress: string[]) => `{${WEB}, egress: [${[names, ...egress].join()}]}`;
  const ofNames = (...args: Parameters<typeof look>) =>
    look(...args).warnings.filter((text) => text.includes("selects no address"));
  const all = [
    /^spec\.egress\[0\]\.toFQDNs\[0\]: www\.example\.com selects no address: no rule sends the DNS/,
    /^spec\.egress\[0\]\.toFQDNs\[1\]: \*\.example\.org selects no address: no rule sends the DNS/,
  ];
  const isAll = (warnings: string[], text: string) => {
    assert.equal(warnings.length, all.length, `${text}: ${warnings}`);
    for (const [at, warning] of warnings.entries()) assert.match(warning, all[at]);
  };
  const judged = (pattern: string) => dns(`, rules: {dns: [{matchPattern: "${pattern}"}]}`);
  isAll(ofNames(spec()), "no DNS at all");
  isAll(ofNames(spec(dns(""))), "DNS that the proxy does not see");
  isAll(
    ofNames(spec(), [`{endpointSelector: {matchLabels: {app: client}}, egress: [${judged("*")}]}`]),
    "another's",
  );
  const none: [string, string[]][] = [
    [spec(judged("*")), []],
    // rules of other policies for the same endpoints, of which one need only be known
    [spec(), [`{endpointSelector: {}, egress: [${judged("*")}]}`]],
    [spec(judged("**.example.org"), judged("www.example.com")), []],
    [spec(judged("*.svc"), dns("")), []],
  ];
  for (const [text, stored] of none) assert.deepEqual(ofNames(text, stored), [], text);
  assert.deepEqual(ofNames(spec(judged("*.example.org"))), [
    "spec.egress[0].toFQDNs[0]: www.example.com selects no address: no dns rule of these endpoints lets them ask for it",
  ]);
  // Nobody is selected yet: any policy may be the one that selects them too.
  const gone = `{endpointSelector: {matchLabels: {app: later}}, egress: [${names}]}`;
  isAll(ofNames(gone), "nobody yet");
  assert.deepEqual(ofNames(gone, [`{endpointSelector: {}, egress: [${judged("*")}]}`]), []);
});

Deno.test("PolicySelections says of names whose L7 rules may meet those of another protocol on one address", () => {
  const http = (peer: string, port = 443) =>
    `{${peer}, toPorts: [{ports: [{port: "${port}", protocol: TCP}], rules: {http: [{method: GET}]}}]}`;
  const kafka = (peer: string) =>
    `{${peer}, toPorts: [{ports: [{port: "443", protocol: TCP}], rules: {kafka: [{role: produce}]}}]}`;
  const meeting = (egress: string[], stored: string[] = []) =>
    look(`{${WEB}, egress: [${egress}]}`, stored).warnings.filter((text) =>
      text.includes("one protocol alone")
    );
  const named = "toFQDNs: [{matchName: www.example.com}]";
  const others = [
    'toFQDNs: [{matchPattern: "*.example.com"}]',
    "toCIDR: [192.0.2.0/24]",
    "toEntities: [world]",
  ];
  for (const other of others) {
    const [first, ...more] = meeting([http(named), kafka(other)]);
    assert.match(
      first,
      /^spec\.egress\[0\]\.toFQDNs\[0\]: www\.example\.com has HTTP rules for 443\/TCP and .* KAFKA rules/,
    );
    assert.equal(more.length, other.startsWith("toFQDNs") ? 1 : 0, "each selector of names says it");
    assert.equal(
      meeting([http(named)], [`{endpointSelector: {}, egress: [${kafka(other)}]}`]).length,
      1,
      "another policy's",
    );
    assert.deepEqual(
      meeting([http(named)], [`{endpointSelector: {matchLabels: {app: client}}, egress: [${kafka(other)}]}`]),
      [],
    );
    assert.deepEqual(meeting([http(named, 80), kafka(other)]), [], "another port");
    assert.deepEqual(meeting([http(named), http(other)]), [], "the same protocol");
  }
  for (const apart of ["toFQDNs: [{matchName: example.org}]", "toEndpoints: [{}]"]) {
    assert.deepEqual(meeting([http(named), kafka(apart)]), [], apart);
  }
});

Deno.test("PolicySelections counts the nodes of a policy for hosts, and says what people need that it shuts", () => {
  const EDGE = "nodeSelector: {matchLabels: {tier: edge}}",
    tcp = (port: number) => `toPorts: [{ports: [{port: "${port}", protocol: TCP}]}]`;
  const SSH = "nothing allows 22/TCP to these nodes: new SSH connections are refused, open ones go on";
  assert.deepEqual(look(`{${EDGE}, ingress: [{${tcp(22)}}]}`), { count: 1, warnings: [] });
  assert.deepEqual(look(`{nodeSelector: {matchLabels: {tier: core}}, ingress: [{${tcp(22)}}]}`), {
    count: 0,
    warnings: ["spec.nodeSelector: no node has tier=core"],
  });
  assert.deepEqual(look(`{${EDGE}, ingress: [{${tcp(80)}}]}`).warnings, [`spec.ingress: ${SSH}`]);
  assert.deepEqual(
    look(`{${EDGE}, ingress: [{${tcp(80)}}]}`, [`{${EDGE}, ingress: [{${tcp(22)}}]}`]).warnings,
    [],
  );
  assert.deepEqual(look(`{${EDGE}, ingress: [{}], ingressDeny: [{fromEntities: [all]}]}`).warnings, [
    `spec.ingress: ${SSH}`,
  ]);
  assert.deepEqual(look(`{${EDGE}, egress: [{${tcp(443)}}]}`).warnings, [
    "spec.egress: nothing allows these nodes 53/UDP: they cannot resolve names",
  ]);
});
