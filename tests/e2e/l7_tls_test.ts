/**
 * Rules about the server that a TLS client names: which handshake passes, what a client is told whose does not, also where the server asks for a second
 * ClientHello; what the server sees; what `weir explain` says beforehand; the flows.
 * @module
 */
import assert from "node:assert/strict";
import { at, program } from "./service.ts";
import { canRun, Lab } from "./weir.ts";

const lab = new Lab(`tls${Deno.pid}`);
const PORT = 8443, DIRECTORY = Deno.makeTempDirSync({ prefix: "weir-tls-" });
const CERTIFICATE = `${DIRECTORY}/certificate.pem`, KEY = `${DIRECTORY}/key.pem`;
const pod = (name: string, command: string[]) =>
  `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: shop, labels: { app: ${name} } }\n` +
  `spec: { nodeName: node-1, containers: [{ name: main, command: ${JSON.stringify(command)} }] }\n`;
const MANIFESTS = [
  "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n",
  pod("gateway", ["python3", program("tls_server.py"), `${PORT}`, CERTIFICATE, KEY]),
  pod("client", ["sleep", "infinity"]),
].join("---\n");
const policy = (...names: string[]) =>
  `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: client, namespace: shop }
spec:
  endpointSelector: { matchLabels: { app: client } }
  egress:
    - toEndpoints: [{ matchLabels: { app: gateway } }]
      toPorts:
        - ports: [{ port: "${PORT}", protocol: TCP }]
          serverNames: ${JSON.stringify(names)}
`;
const LIST = "cnp:shop/client spec.egress[0].toPorts[0].serverNames";

if (canRun) {
  Deno.test.beforeAll(async () => {
    Deno.chmodSync(DIRECTORY, 0o755);
    const made = await new Deno.Command("openssl", {
      args: [
        ..."req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=weir".split(" "),
        "-keyout",
        KEY,
        "-out",
        CERTIFICATE,
      ],
    }).output();
    assert.ok(made.success, new TextDecoder().decode(made.stderr));
    await lab.up(1, MANIFESTS);
    await lab.inForce();
  });
  Deno.test.afterAll(async () => {
    await lab.down();
    await Deno.remove(DIRECTORY, { recursive: true });
  });
}
const e2e = (name: string, body: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn: body });

async function addresses() {
  const of = async (name: string) =>
    JSON.parse(await lab.ok(["endpoint", "get", `shop/${name}`, "-o", "json"])).status;
  const [gateway, client] = [await of("gateway"), await of("client")];
  return [{ gateway: gateway.ipv4, client: client.ipv4 }, {
    gateway: `[${gateway.ipv6}]`,
    client: client.ipv6,
  }];
}

const run = (...command: string[]) => at(lab, { pod: "shop/client" }, command);
/** With the name where one is given, else with none: an address is no name of a server. */
function curl(gateway: string, name?: string, ...more: string[]) {
  const target = name === undefined
    ? [`https://${gateway}:${PORT}/`]
    : ["--resolve", `${name}:${PORT}:${gateway}`, `https://${name}:${PORT}/`];
  return run("curl", "-sSkg", "--max-time", "20", "-w", "%{local_port}", ...more, ...target);
}

e2e(
  "serverNames let a handshake for these servers pass, with and without a second ClientHello, and end all others with a TLS alert",
  async () => {
    await lab.apply(policy("www.example.com", "*.shop.example"));
    for (const { gateway, client } of await addresses()) {
      // The second is sent to retry: it begins with X25519, which the server does not have.
      for (const curves of ["P-384", "X25519:P-384"]) {
        for (const name of ["www.example.com", "WWW.example.com", "a.shop.example"]) {
          const { out, err } = await curl(gateway, name, "--curves", curves);
          const [said, port] = out.split("\n");
          assert.equal(said, `${client} ${port} ${name.toLowerCase()}`, `${curves}: ${err}`);
        }
        const tls12 = await curl(gateway, "www.example.com", "--tls-max", "1.2");
        assert.match(tls12.out, / www\.example\.com\n/, tls12.err);
        for (const name of ["evil.example", "a.b.shop.example", undefined]) {
          const { code, out, err } = await curl(gateway, name, "--curves", curves);
          assert.equal(code, 35, `${name}: ${out}`);
          assert.match(err, /alert access denied/, `${name}`);
        }
      }
    }
    const [{ gateway }] = await addresses();
    const openssl = await run("openssl", "s_client", "-noservername", "-connect", `${gateway}:${PORT}`);
    assert.match(openssl.err, /alert access denied/);
    // Whoever speaks something else is cut off, and the flow says why.
    const plain = await run("curl", "-sS", "--max-time", "20", `http://${gateway}:${PORT}/`);
    assert.notEqual(plain.code, 0);
    await lab.flow(
      "the connection that is no TLS",
      // deno-lint-ignore no-explicit-any
      ({ Summary, verdict }: any) => verdict === "ERROR" && Summary === "the client does not speak TLS",
      "-t",
      "l7",
    );
  },
);

e2e("weir explain --server-name says the same, and flows name the server that was asked for", async () => {
  await lab.apply(policy("www.example.com"));
  const cases: [name: string, denied: boolean, says: string][] = [
    ["www.example.com", false, `Allowed by ${LIST}[0]`],
    ["evil.example", true, `Denied: no server name rule of ${LIST} `],
    ["", true, `Denied: no server name rule of ${LIST} `],
  ];
  const [{ gateway }] = await addresses();
  for (const [name, isDenied, says] of cases) {
    const asked = ["--from", "shop/client", "--to", "shop/gateway", "-p", `${PORT}`, "--server-name", name];
    const { code, out, err } = await lab.weir(["explain", ...asked]);
    assert.equal(code, isDenied ? 3 : 0, `${name}: ${out}${err}`);
    assert.ok(out.includes(says), `${name}: no ${says} in\n${out}`);
    await curl(gateway, name === "" ? undefined : name);
    // deno-lint-ignore no-explicit-any
    const flow: any = await lab.flow(
      `the flow of ${name}`,
      // deno-lint-ignore no-explicit-any
      ({ Summary, source, destination, verdict }: any) =>
        verdict === (isDenied ? "DROPPED" : "FORWARDED") && source.pod_name === "client" &&
        destination.pod_name === "gateway" &&
        Summary.startsWith(`TLS ${name === "" ? "without a server name" : name}`),
      "-t",
      "l7",
    );
    assert.equal((isDenied ? flow.egress_denied_by : flow.egress_allowed_by)[0].name, "client");
    if (isDenied) {
      const what = name === "" ? "TLS without a server name" : `TLS to ${name}`;
      assert.ok(flow.Summary.endsWith(`; Denied by policy ${LIST}: no rule allows ${what}`), flow.Summary);
    }
  }
});

e2e("a connection ends when its server's name is allowed no more", async () => {
  await lab.apply(policy("www.example.com"));
  const [{ gateway }] = await addresses();
  const kept = run(
    "sh",
    "-c",
    `(sleep 6; echo GET /) | timeout 30 openssl s_client -quiet -servername www.example.com -connect ${gateway}:${PORT}; echo "ended $?"`,
  );
  await lab.flow(
    "the handshake",
    // deno-lint-ignore no-explicit-any
    ({ Summary }: any) => Summary === "TLS www.example.com",
    "-t",
    "l7",
  );
  await lab.apply(policy("other.example.com"));
  const { out } = await kept;
  assert.doesNotMatch(out, /200 OK/);
});
