/**
 * DNS rules from the manifest to the answer: unbound as the server, dig and the resolvers of glibc and musl as clients, by TCP and by UDP; what each is told of a
 * name that no rule allows, answers of 2000 addresses, the flows, and what `weir explain --dns` says beforehand.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { at, program } from "./service.ts";
import { canRun, Lab, run } from "./weir.ts";

const lab = new Lab(`dns${Deno.pid}`);
const directory = canRun ? await Deno.makeTempDir({ prefix: "weir-dns-" }) : "";
const pod = (name: string, command: string[]) =>
  `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: shop, labels: { app: ${name} } }\n` +
  `spec: { nodeName: node-1, containers: [{ name: main, command: ${JSON.stringify(command)} }] }\n`;
const MANIFESTS = [
  "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n",
  pod("names", ["unbound", "-d", "-c", `${directory}/unbound.conf`]),
  pod("client", ["sleep", "infinity"]),
].join("---\n");
const POLICY = `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: client, namespace: shop }
spec:
  endpointSelector: { matchLabels: { app: client } }
  egress:
    - toEndpoints: [{ matchLabels: { app: names } }]
      toPorts:
        - ports: [{ port: "53", protocol: ANY }]
          rules:
            dns:
              - { matchPattern: "*.good.example" }
              - { matchName: "big.example" }
    - toFQDNs: [{ matchPattern: "*.good.example" }]
      toPorts: [{ ports: [{ port: "8080", protocol: TCP }] }]
`;
/** Addresses outside: of a name that policy means, and of nobody. */
const [SITE, OTHER] = ["172.30.0.120", "172.30.0.121"];
/** Says that it is there to whoever connects. */
const GREETER =
  "import socket\ns=socket.create_server(('0.0.0.0',8080))\nwhile True:\n c,_=s.accept(); c.sendall(b'hello'); c.close()";
/** Connects by name or address, and prints what it hears. */
const HEAR = `import socket,sys
try: print(socket.create_connection((sys.argv[1],8080),float(sys.argv[2])).recv(9).decode())
except OSError as e: print('no')
`;
const LIST = "cnp:shop/client spec.egress[0].toPorts[0].rules.dns";
const BIG = 2000;

/** A server that knows what is asked here, and nobody else. */
function serverConfiguration(): string {
  const data = [
    "www.good.example. 60 IN A 192.0.2.1",
    "www.good.example. 60 IN AAAA 2001:db8::1",
    "alias.good.example. 30 IN CNAME www.good.example.",
    "www.bad.example. 60 IN A 192.0.2.9",
    `site.good.example. 60 IN A ${SITE}`,
    ...Array.from({ length: BIG }, (_, at) => `big.example. 60 IN A 198.51.${at >> 8}.${at & 255}`),
  ];
  return [
    "server:",
    "  interface: 0.0.0.0\n  interface: ::0",
    '  username: ""\n  chroot: ""\n  pidfile: ""\n  directory: "/"',
    "  use-syslog: no\n  do-daemonize: no\n  num-threads: 1",
    '  module-config: "iterator"',
    "  access-control: 0.0.0.0/0 allow\n  access-control: ::0/0 allow",
    "  minimal-responses: yes\n  edns-buffer-size: 1232\n  max-udp-size: 1232",
    '  local-zone: "example." static',
    ...data.map((line) => `  local-data: "${line}"`),
    "remote-control:\n  control-enable: no\n",
  ].join("\n");
}

let server: Readonly<Record<4 | 6, string>>, greeter: Deno.ChildProcess | undefined;
if (canRun) {
  Deno.test.beforeAll(async () => {
    await Deno.writeTextFile(`${directory}/unbound.conf`, serverConfiguration());
    await lab.up(1, MANIFESTS);
    await lab.inForce();
    const { status } = JSON.parse(await lab.ok(["endpoint", "get", "shop/names", "-o", "json"]));
    server = { 4: status.ipv4, 6: status.ipv6 };
    await until(
      "unbound answers",
      async () => (await dig(4, "tcp", "www.good.example")).status === "NOERROR",
    );
    const outside = (...command: string[]) => at(lab, "outside", command);
    const device = /dev (\S+)/.exec((await outside("ip", "-4", "route", "get", "172.30.0.11")).out)?.[1];
    for (const address of [SITE, OTHER]) {
      const added = await outside("ip", "address", "add", `${address}/24`, "dev", device ?? "eth0");
      assert.equal(added.code, 0, added.err);
    }
    greeter = new Deno.Command(new URL("../../scripts/weir", import.meta.url).pathname, {
      args: ["--lab", lab.name, "lab", "exec", "--outside", "--", "python3", "-c", GREETER],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    const hears = async () => (await outside("python3", "-c", HEAR, SITE, "2")).out.trim() === "hello";
    await until("the site is there", hears);
    await lab.apply(POLICY);
  });
  Deno.test.afterAll(async () => {
    await lab.down();
    await greeter?.status;
    await Deno.remove(directory, { recursive: true });
  });
}
const e2e = (name: string, body: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn: body });
const WAYS = ["tcp", "udp"] as const;
type Way = "tcp" | "udp";

/** What dig is told. */
async function dig(family: 4 | 6, way: Way, ...words: string[]) {
  const options = ["+time=10", "+tries=1", way === "tcp" ? "+tcp" : "+notcp"];
  const { out, err } = await at(lab, { pod: "shop/client" }, [
    "dig",
    `@${server[family]}`,
    ...options,
    ...words,
  ]);
  const status = /status: (\w+)/.exec(out)?.[1] ?? "none";
  const answers = [...out.matchAll(/^[^;\s]\S*\s+\d+\s+IN\s+(A|AAAA|CNAME)\s+(\S+)$/gm)].map((found) =>
    found[2]
  );
  return { status, answers, out: out + err };
}

/** Likewise of the resolver of a C library; it reads `/etc/resolv.conf`, which is its own here. */
async function resolve(way: Way, command: string[]): Promise<string> {
  const file = `${directory}/resolv.${way}.conf`;
  const options = way === "tcp"
    ? "options use-vc timeout:10 attempts:1\n"
    : "options timeout:10 attempts:1\n";
  await Deno.writeTextFile(file, `nameserver ${server[4]}\n${options}`);
  const script = `mount --bind ${file} /etc/resolv.conf && exec "$@"`;
  const { out, err } = await at(lab, { pod: "shop/client" }, [
    "unshare",
    "-m",
    "sh",
    "-c",
    script,
    "sh",
    ...command,
  ]);
  return out + err;
}

e2e(
  "a dns rule lets through what it names, by TCP and by UDP, and a denial names policy and rule",
  async () => {
    for (const way of WAYS) {
      for (const family of [4, 6] as const) {
        const what = `${way}, IPv${family}`;
        const allowed = await dig(family, way, "wWw.gOOd.example");
        assert.deepEqual(
          [allowed.status, allowed.answers],
          ["NOERROR", ["192.0.2.1"]],
          `${what}: ${allowed.out}`,
        );
        // As it was asked: a client may look at the case to know that the answer is its own.
        assert.match(allowed.out, /^;wWw\.gOOd\.example\.\s+IN\s+A$/m, what);
        assert.deepEqual((await dig(family, way, "alias.good.example")).answers, ["www.good.example."]);
        assert.equal(
          (await dig(family, way, "none.good.example")).status,
          "NXDOMAIN",
          "the server's own word",
        );
        for (const name of ["www.bad.example", "a.b.good.example", "good.example", "."]) {
          const denied = await dig(family, way, name);
          assert.deepEqual(
            [denied.status, denied.answers],
            ["REFUSED", []],
            `${what}, ${name}: ${denied.out}`,
          );
          assert.ok(
            denied.out.includes(`Denied by policy ${LIST}: no rule allows ${name === "." ? "" : name}.`),
            denied.out,
          );
        }
        const plain = await dig(family, way, "+noedns", "www.bad.example");
        assert.deepEqual([plain.status, /OPT PSEUDOSECTION/.test(plain.out)], ["REFUSED", false]);
      }
    }
  },
);

e2e("an answer of 2000 addresses comes whole", async () => {
  for (const way of WAYS) {
    // By UDP the server says that it is truncated, and dig asks again by TCP.
    const { status, answers, out } = await dig(4, way, "big.example");
    assert.deepEqual([status, new Set(answers).size], ["NOERROR", BIG], out.slice(0, 500));
  }
});

e2e("glibc's resolver has both families of an allowed name, and none of another", async () => {
  for (const way of WAYS) {
    const found = await resolve(way, ["getent", "ahosts", "www.good.example"]);
    for (const address of ["192.0.2.1", "2001:db8::1"]) assert.ok(found.includes(`${address} `), found);
    assert.equal(await resolve(way, ["getent", "ahosts", "www.bad.example"]), "");
  }
});

e2e(
  "musl's resolver, which has UDP alone, finds an allowed name, and is told of another at once",
  async () => {
    const built = `${directory}/resolve`;
    const { code, err } = await run("musl-gcc", ["-static", "-o", built, program("resolve.c")]);
    assert.equal(code, 0, err);
    assert.equal(
      await resolve("udp", [built, "www.good.example", "www.bad.example"]),
      "www.good.example: 192.0.2.1 2001:db8::1\nwww.bad.example: error AGAIN\n",
    );
  },
);

e2e(
  "toFQDNs: an address is open from the moment its name was answered, by name, and no other one is",
  async () => {
    const hear = async (whom: string, patienceS: number) =>
      (await at(lab, { pod: "shop/client" }, ["python3", "-c", HEAR, whom, `${patienceS}`])).out.trim();
    assert.equal(await hear(SITE, 2), "no", "nobody has asked for its name");
    assert.equal(await resolve("udp", ["python3", "-c", HEAR, "site.good.example", "20"]), "hello\n");
    assert.equal(await hear(SITE, 20), "hello", "by its address too");
    assert.equal(await hear(OTHER, 2), "no");
    const { code, out } = await lab.weir(
      "explain --from shop/client --to name/site.good.example --port 8080".split(" "),
    );
    assert.equal(code, 0, out);
    const { destination_names: names, verdict } = await lab.flow(
      "the connection by name",
      ({ IP, l4, verdict }) =>
        IP?.destination === SITE && l4?.TCP?.destination_port === 8080 && verdict === "FORWARDED",
    );
    assert.deepEqual([names, verdict], [["site.good.example"], "FORWARDED"]);
  },
);

e2e("weir explain --dns says what the proxy then does", async () => {
  for (const [name, isAllowed] of [["www.good.example", true], ["www.bad.example", false]] as const) {
    const { code, out } = await lab.weir([
      ..."explain --from shop/client --to shop/names --port 53 --dns".split(" "),
      name,
    ]);
    assert.equal(code, isAllowed ? 0 : 3, out);
    assert.ok(out.includes(isAllowed ? `Allowed by ${LIST}[0]` : `no DNS rule of ${LIST} `), out);
  }
});

e2e("flows say who asked for which name, what became of it, and which addresses the answer has", async () => {
  for (const way of WAYS) {
    for (const name of ["www.good.example", "alias.good.example", "www.bad.example"]) await dig(4, way, name);
    // deno-lint-ignore no-explicit-any
    const seen = async (what: string, wanted: (flow: any) => boolean): Promise<any> =>
      await lab.flow(what, wanted, "-t", "l7", "--protocol", "dns");
    const answerOf = (name: string) =>
      seen(`the answer for ${name}`, ({ l7, is_reply }) => is_reply && l7?.dns?.query === `${name}.`);
    const { verdict, l7, source } = await answerOf("www.good.example");
    assert.deepEqual([verdict, source.pod_name, l7.dns.qtypes, l7.dns.ips, l7.dns.ttl], [
      "FORWARDED",
      "names",
      ["A"],
      ["192.0.2.1"],
      60,
    ]);
    assert.deepEqual((await answerOf("alias.good.example")).l7.dns.cnames, ["www.good.example."]);
    const denied = await seen(
      "the denial",
      ({ l7, verdict }) => verdict === "DROPPED" && l7?.dns?.query === "www.bad.example.",
    );
    assert.equal(denied.egress_denied_by[0].name, "client");
  }
});
