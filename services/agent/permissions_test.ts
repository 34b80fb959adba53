import { deepEqual, equal, match, throws } from "node:assert/strict";
import { ACCESS } from "./access.ts";
import { AgentConfigError, readAgentConfig } from "./config.ts";
import { unprivilegedUser } from "@weir/common";
import { type Layout, socketOf, stateOf } from "./layout.ts";
import { prefixesBeside } from "./l7_proxy_spec.ts";
import { commandOf, serviceSpecs } from "./permissions.ts";
import type { ServiceSpec } from "./service_spec.ts";

const layout: Layout = {
  instance: "x",
  sockets: "/run/weir/x",
  state: "/var/lib/weir/x",
  code: "/run/weir/.code",
  uid: 65534,
  gid: 65534,
};
const config = (...args: string[]) => readAgentConfig(["--control-plane", ...args]);

Deno.test("serviceSpecs() gives FFI, programs and root to the datapath alone", () => {
  for (const spec of serviceSpecs(config(), layout, "n")) {
    const command = commandOf(spec, layout, "/code.js", "/deno.json").join(" ");
    if (spec.name === "datapath") {
      match(command, /--bounding-set=-all,\+bpf/);
      continue;
    }
    // Of IPv6 Deno has no words for the L7 proxy's handles: every address, but for those of IPv4 that are none.
    const isProxy = spec.name === "l7-proxy";
    if (isProxy) match(command, /--deny-net=0\.0\.0\.0\/1,/);
    equal(
      /--allow-(all|ffi|run|import|read(?!=)|write(?!=)|net(?!=)|sys(?!=))/.test(
        isProxy ? command.replace("--allow-net ", "") : command,
      ),
      false,
      command,
    );
    match(command, /--reuid=65534 --regid=65534 --clear-groups --bounding-set=-all/);
  }
});

/** What a service may do, in few words: "read node.key", "net policy-engine-read.sock". `rw`: what Deno needs for a socket. */
function rightsOf({ name, permissions }: ServiceSpec): string[] {
  const values = (flag: string) =>
    permissions.flatMap((one) => one.startsWith(`--allow-${flag}=`) ? one.split("=")[1].split(",") : []);
  const short = (path: string) => path.replace(/^(unix:)?\/(run|var\/lib)\/weir\/x\//, "");
  const write = values("write"), read = values("read");
  return [
    ...permissions.filter((one) => !/^--allow-(read|write|net|env|sys)=/.test(one)),
    ...write.map((path) => `${read.includes(path) ? "rw" : "write"} ${short(path)}`),
    ...read.filter((path) => !write.includes(path)).map((path) => `read ${short(path)}`),
    ...values("net").map((host) => `net ${short(host)}`),
    ...values("env").map((one) => `env ${one}`),
    ...values("sys").map((one) => `sys ${one}`),
  ].filter((right) => ![`rw ${name}.sock`, `net ${name}.sock`].includes(right)).sort();
}

/** The L7 proxy's: every address of IPv6, of IPv4 handles alone. */
const PROXY = [
  "--allow-net",
  "--unstable-net",
  "--deny-net=0.0.0.0/1,128.0.0.0/2,192.0.0.0/3,224.0.0.0/4,248.0.0.0/5,244.0.0.0/6,242.0.0.0/7,241.0.0.0/8",
  "rw l7-proxy",
  "rw datapath-read.sock",
  "rw l7-records.sock",
  "rw endpoint-manager-names.sock",
  "env WEIR_*",
  "sys hostname",
].sort();

/** A socket that a service speaks to. */
const speaksTo = (...names: string[]) => names.flatMap((name) => [`rw ${name}.sock`, `net ${name}.sock`]);
const CERTIFICATE = (directory = "") =>
  ["ca.crt", "node.crt", "node.key"].map((file) => `read ${directory}${file}`);
const PLANE = (service: keyof typeof PORT) =>
  ["10.0.0.1", "10.0.0.3"].map((host) => `net ${host}:${PORT[service]}`);
const PORT = {
  "certificate-authority": 7440,
  "identity-allocator": 7441,
  "policy-engine": 7442,
  "load-balancer": 7443,
};
/** PostgreSQL's client looks at PG* and the user's name. */
const DATABASE = ["--allow-env"];
/** Health check node ports. */
const EVERY_PORT = ["net 0.0.0.0", "net [::]"];
/** Every unprivileged service has its own socket beside these. */
const ALWAYS = ["net localhost:2", "sys hostname"];

function assertRights(specs: ServiceSpec[], expected: Record<string, string[]>): void {
  const found = Object.fromEntries(
    specs.filter(({ privileged, name }) => !privileged && name !== "l7-proxy").map((
      spec,
    ) => [spec.name, rightsOf(spec)]),
  );
  deepEqual(
    found,
    Object.fromEntries(Object.entries(expected).map(([name, list]) => [name, [...ALWAYS, ...list].sort()])),
  );
}

Deno.test("serviceSpecs() gives each service of a control plane its own state and what it speaks to, and nothing else", () => {
  const reads = ["rw certificate-authority-read.sock", "net certificate-authority-read.sock"];
  const serves = (name: keyof typeof PORT) => [
    `rw ${name}`,
    ...speaksTo(`${name}-read`),
    ...reads,
    `net 10.0.0.1:${PORT[name]}`,
    ...CERTIFICATE(),
    ...DATABASE,
  ];
  assertRights(serviceSpecs(config("--listen", "10.0.0.1", "--ipv4", "10.0.0.1"), layout, "n"), {
    "certificate-authority": [
      "rw certificate-authority",
      "read withdrawals",
      ...reads,
      "net 10.0.0.1:7440",
      ...CERTIFICATE(),
      ...DATABASE,
    ],
    "identity-allocator": serves("identity-allocator"),
    "policy-engine": [
      ...serves("policy-engine"),
      ...speaksTo("identity-allocator-read", "load-balancer-read"),
    ],
    "load-balancer": [...serves("load-balancer"), ...speaksTo("identity-allocator-read")],
    "endpoint-manager": [
      "rw endpoint-manager",
      ...EVERY_PORT,
      "rw cni-deletions",
      ...speaksTo(
        "l7-proxy",
        "cni",
        "endpoint-manager-names",
        "endpoint-manager-read",
        "datapath",
        "identity-allocator",
        "policy-engine",
        "load-balancer-read",
      ),
      "env WEIR_*",
      "sys networkInterfaces",
    ],
    "flow-exporter": [
      ...speaksTo(
        "datapath-read",
        "endpoint-manager-read",
        "identity-allocator-read",
        "policy-engine-read",
        "load-balancer-read",
        "hubble",
        "l7-records",
      ),
      ...reads,
      ...CERTIFICATE("reader/"),
      "env WEIR_*",
      "net 127.0.0.1:4244",
      "net 10.0.0.1:4244",
    ],
    "relay": [
      ...speaksTo("identity-allocator-read", "hubble", "hubble-relay"),
      ...reads,
      ...CERTIFICATE("reader/"),
      "env WEIR_*",
      "net 127.0.0.1:4245",
      "net 0.0.0.0/0:4244",
    ],
    "flow-history": [
      "rw flow-history",
      ...speaksTo("flow-history-read", "hubble-relay", "identity-allocator-read", "policy-engine-read"),
      ...DATABASE,
    ],
    "ui": [
      "rw ui",
      "read /run/weir/.code/page",
      ...speaksTo(
        "identity-allocator-read",
        "policy-engine-read",
        "load-balancer-read",
        "flow-history-read",
        "datapath-read",
        "endpoint-manager-read",
        "hubble",
        "hubble-relay",
        "agent",
        "ui-page",
      ),
      "net 127.0.0.1:12000",
      ...["env WEIR_*", "env LOG_STREAM", "env LOG_TOKENS"],
    ],
  });
});

Deno.test("serviceSpecs() lets the web page read: from other nodes of this host too, and on no port that is not asked for", () => {
  const uiOf = (...args: string[]) =>
    serviceSpecs(config(...args), layout, "n").find(({ name }) => name === "ui");
  const more = (...args: string[]) => {
    const without = rightsOf(uiOf()!);
    return rightsOf(uiOf(...args)!).filter((right) => !without.includes(right));
  };
  deepEqual(
    more("--hubble-relay-node", "m=/run/weir/y/hubble.sock"),
    ["agent", "datapath-read", "endpoint-manager-read"].flatMap((name) => [
      `net unix:/run/weir/y/${name}.sock`,
      `rw /run/weir/y/${name}.sock`,
    ]).sort(),
  );
  equal(
    rightsOf(uiOf("--ui-listen", "")!).some((right) => /^net [^/]*:\d+$/.test(right) && !/:2$/.test(right)),
    false,
  );
  deepEqual(
    more("--ui-listen", "10.0.0.1", "--ui-tls-directory", "/etc/page", "--ui-token-file", "/etc/token"),
    ["net 10.0.0.1:12000", "read /etc/token", ...CERTIFICATE("/etc/page/")].sort(),
  );
  throws(() => config("--ui-listen", "10.0.0.1"), /beyond loopback/);
  throws(() => config("--ui-listen", "nowhere:x"), /ADDRESS\[:12000\]/);
  equal(uiOf("--no-ui"), undefined);
  // What it may open answers, and changes nothing: sockets for reading, and APIs that only read.
  for (const right of rightsOf(uiOf()!)) {
    match(
      right,
      /^(net|rw) (ui|ui-page|agent|hubble|hubble-relay|[a-z-]+-read)(\.sock)?$|^(read|env|sys|net) /,
    );
  }
});

Deno.test("serviceSpecs() keeps a joined machine's key from the flow exporter, which has a certificate that reads", () => {
  const joined = readAgentConfig(["--instance", "x", "--ipv4", "10.0.0.9"], {
    membership: () => ({
      version: 1,
      cluster: "c",
      node: "n",
      role: "node",
      addresses: ["10.0.0.1:7440", "10.0.0.3:7440"],
    }),
  });
  const specs = serviceSpecs(joined, layout, "n");
  const plane = [...PLANE("identity-allocator"), ...PLANE("policy-engine"), ...PLANE("load-balancer")];
  assertRights(specs, {
    "endpoint-manager": [
      "rw endpoint-manager",
      ...EVERY_PORT,
      "rw cni-deletions",
      ...speaksTo("cni", "endpoint-manager-names", "endpoint-manager-read", "datapath", "l7-proxy"),
      ...plane,
      ...CERTIFICATE(),
      "env WEIR_*",
      "sys networkInterfaces",
    ],
    "flow-exporter": [
      ...speaksTo("datapath-read", "endpoint-manager-read", "hubble", "l7-records"),
      "net 127.0.0.1:4244",
      "net 10.0.0.9:4244",
      ...PLANE("certificate-authority"),
      ...plane,
      ...CERTIFICATE("reader/"),
      "env WEIR_*",
    ],
  });
  const { args } = specs.find(({ name }) => name === "flow-exporter")!;
  match(args.join(" "), /--policy-engine \S+#\/var\/lib\/weir\/x\/reader( |$)/);
});

Deno.test("serviceSpecs() starts the control plane only where it is asked for, and names its peers elsewhere", () => {
  const node = readAgentConfig([
    "--identity-allocator",
    "unix:/a/ia.sock",
    "--policy-engine",
    "https://10.0.0.1:9902",
  ]);
  const specs = serviceSpecs(node, layout, "n");
  deepEqual(specs.map((spec) => spec.name), ["datapath", "l7-proxy", "endpoint-manager", "flow-exporter"]);
  const net = specs[2].permissions.filter((flag) => flag.startsWith("--allow-net=")).join(" ");
  match(net, /unix:\/a\/ia\.sock/);
  match(net, /10\.0\.0\.1:9902/);
  equal(serviceSpecs(config(), layout, "n").length, 10);
  equal(serviceSpecs(config("--no-flow-history", "--no-ui"), layout, "n").length, 8);
});

Deno.test("serviceSpecs() runs a control plane without a node beside the node's own agent", () => {
  const alone = config("--no-node", "--listen", "10.0.0.1");
  equal(alone.instance, "control-plane");
  equal(config("--no-node", "--instance", "x").instance, "x");
  equal(config().instance, "host");
  const specs = serviceSpecs(alone, layout, "n");
  deepEqual(specs.map(({ role }) => role).filter((role) => role !== "control-plane"), []);
  const argsOf = (name: string) => specs.find((spec) => spec.name === name)!.args.join(" ");
  equal(argsOf("relay").includes("--node-socket"), false);
  // The node's agent says that this address is its own.
  equal(argsOf("identity-allocator").includes("--protected-prefixes"), false);
  throws(() => readAgentConfig(["--no-node"]), /--no-node is for --control-plane/);
});

Deno.test("readAgentConfig() takes a node that is still to join, and probes on loopback alone", () => {
  const none = () => undefined;
  const joining = readAgentConfig(["--kubernetes-join", "/run/weir-join"], { membership: none });
  equal(joining.kubernetesJoin, "/run/weir-join");
  throws(() => config("--kubernetes-join", "/x"), /it needs an agent of its own/);
  equal(config("--health-listen", "127.0.0.1:7447").healthListen, "127.0.0.1:7447");
  for (const wrong of ["10.0.0.1:7447", "127.0.0.1", ":7447", "[::]:7447"]) {
    throws(() => config("--health-listen", wrong), /expected ADDRESS:PORT of loopback/, wrong);
  }
});

Deno.test("serviceSpecs() lets the relay alone reach nodes that have only IPv6 addresses, where a cluster may have such", async () => {
  const script = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    const hosts = ["[2001:db8::7]:4244", "10.0.0.7:4244"];
    await Deno.writeTextFile(
      script,
      `for (const host of ${JSON.stringify(hosts)}) {
        console.log((await Deno.permissions.query({ name: "net", host })).state);
      }`,
    );
    const reached = async (flag: string) => {
      const args = ["run", "--no-prompt", "--no-config", "--no-lock", flag, script];
      const { stdout } = await new Deno.Command(Deno.execPath(), { args, env: { NO_COLOR: "1" } }).output();
      return new TextDecoder().decode(stdout).trim().split("\n");
    };
    for (
      const [listen, ipv6] of [["10.0.0.1", "prompt"], ["[2001:db8::1]", "granted"]]
    ) {
      for (const spec of serviceSpecs(config("--listen", listen), layout, "n")) {
        const flag = spec.permissions.find((one) => one.startsWith("--allow-net"));
        if (spec.name === "relay") deepEqual(await reached(flag!), [ipv6, "granted"], listen);
        else if (!spec.privileged && spec.name !== "l7-proxy") {
          match(flag!, /^--allow-net=./, `${spec.name} with ${listen}`);
        }
      }
    }
  } finally {
    await Deno.remove(script);
  }
});

Deno.test("serviceSpecs() lets the endpoint manager alone ask Kubernetes' service, of the control plane that was joined by a pod", () => {
  const base = ["--identity-allocator", "unix:/a", "--policy-engine", "unix:/b", "--ipam", "kubernetes"];
  const given = readAgentConfig([...base, "--kubernetes-service", "https://10.0.0.1:7444#/d"], {
    env: () => undefined,
  });
  const joined = readAgentConfig(["--kubernetes-join", "/run/weir-join"], {
    env: () => undefined,
    membership: () => ({ version: 1, role: "node", node: "n", cluster: "c", addresses: ["10.0.0.1:7440"] }),
  });
  for (const [config, directory] of [[given, "/d"], [joined, "/var/lib/weir/host"]] as const) {
    const who = serviceSpecs(config, layout, "n").filter(({ permissions }) =>
      permissions.some((flag) => /^--allow-net=.*10\.0\.0\.1:7444/.test(flag))
    );
    deepEqual(who.map(({ name }) => name), ["endpoint-manager"]);
    match(who[0].args.join(" "), new RegExp(`--kubernetes https://10.0.0.1:7444#${directory}( |$)`));
  }
  const own = config("--kubernetes", "--kubernetes-api-server", "https://172.30.0.1:6443", "--pod-pool-v6=");
  const argsOf = (name: string) =>
    serviceSpecs(own, layout, "n").find((spec) => spec.name === name)!.args.join(" ");
  match(argsOf("endpoint-manager"), /--kubernetes unix:\S+\/kubernetes\.sock /);
  match(argsOf("identity-allocator"), /--pod-pool-v6=( |$)/);
  match(argsOf("endpoint-manager"), /^(?!.*--policy-cidr-match)/);
  const matching = config("--control-plane", "--policy-audit-mode", "--policy-cidr-match", "pods");
  const [{ args }] = serviceSpecs(matching, layout, "n").filter(({ name }) => name === "endpoint-manager");
  match(args.join(" "), /--policy-cidr-match pods /);
  match(args.join(" "), /--enable-policy default --policy-audit-mode /);
  for (
    const [words, fault] of [
      [["--ipam", "none"], /ipam "none"/],
      [["--enable-policy", "sometimes"], /enforce policies "sometimes"/],
      [["--policy-cidr-match", "pods,moon"], /CIDR rules with moon/],
      [["--cni-conf-directory", "/x"], /expected both/],
      [["--cni-conf-directory", "x", "--cni-binary-directory", "/y"], /absolute path/],
    ] as const
  ) {
    throws(() => readAgentConfig(["--control-plane", ...words], { env: () => undefined }), {
      message: fault,
    });
  }
});

Deno.test("serviceSpecs() opens the network to the database that was named, and to no other host", () => {
  const url = "postgres://u:p4ss@db.example:5433/weir";
  const withUrl = readAgentConfig(
    ["--control-plane"],
    { env: (name) => name === "WEIR_DATABASE_URL" ? url : undefined },
  );
  const specs = serviceSpecs(withUrl, layout, "n");
  for (const spec of specs) {
    equal(commandOf(spec, layout, "/code.js", "/deno.json").join(" ").includes("p4ss"), false, spec.name);
    equal(
      spec.secrets?.WEIR_DATABASE_URL,
      spec.role === "control-plane" && !["relay", "ui"].includes(spec.name) ? url : undefined,
      spec.name,
    );
  }
  const spec = specs.find((spec) => spec.name === "identity-allocator")!;
  const net = spec.permissions.find((flag) => flag.startsWith("--allow-net="))!;
  deepEqual(net.slice("--allow-net=".length).split(","), [
    "unix:/run/weir/x/identity-allocator.sock",
    "unix:/run/weir/x/identity-allocator-read.sock",
    "db.example:5433",
    "localhost:2",
  ]);
});

Deno.test("readAgentConfig() refuses a password on the command line, and takes a URL without one", () => {
  for (const url of ["postgres://u:p4ss@db/weir", "postgres://db/weir?user=u&password=p4ss"]) {
    throws(() => config("--database-url", url), /everybody may read it/);
    throws(() => config(`--database-url=${url}`), (error: Error) => !error.message.includes("p4ss"));
  }
  equal(config("--database-url", "postgres://u@db:5433/weir").databaseUrl, "postgres://u@db:5433/weir");
});

Deno.test("readAgentConfig() refuses an instance that is no name, and a node without a control plane", () => {
  for (const instance of ["", "A", "a/b", "-a", "../x"]) {
    throws(() => config("--instance", instance), AgentConfigError, instance);
  }
  throws(() => config("--routing-mode", "magic"), AgentConfigError);
  throws(() => readAgentConfig([]), AgentConfigError);
});

Deno.test("unprivilegedUser() prefers weir to nobody and never takes root", () => {
  deepEqual(unprivilegedUser("root:x:0:0\nnobody:x:65534:65534\nweir:x:990:991\n"), { uid: 990, gid: 991 });
  deepEqual(unprivilegedUser("nobody:x:65534:65534\n"), { uid: 65534, gid: 65534 });
  throws(() => unprivilegedUser("weir:x:0:0\n"));
});

Deno.test("readAgentConfig() takes a member's configuration from its join.json", () => {
  const node = {
    version: 1,
    cluster: "prod",
    node: "n2",
    role: "node",
    addresses: ["10.0.0.1:7440", "[fd00::1]:7000"],
  } as const;
  const read = (args: string[], more = {}) =>
    readAgentConfig(args, { membership: () => ({ ...node, ...more }) });
  const member = read([]);
  equal(member.nodeName, "n2");
  equal(member.cluster, "prod");
  equal(member.policyEngine, "https://10.0.0.1:7442,https://[fd00::1]:7002#/var/lib/weir/host");
  equal(read(["--policy-engine", "unix:/x.sock"]).policyEngine, "unix:/x.sock");
  deepEqual([
    read(["--control-plane", "--listen", "10.0.0.9"]).controlPlane,
    read(["--control-plane"]).listen,
  ], [false, ""]);
  const plane = read([], {
    role: "control-plane",
    listen: "10.0.0.2:7440",
    databaseUrl: "postgres://db.example/weir",
  });
  deepEqual([plane.controlPlane, plane.listen, plane.databaseUrl], [
    true,
    "10.0.0.2:7440",
    "postgres://db.example/weir",
  ]);
  for (const listen of ["0.0.0.0", "[::]:7440", "a b", "10.0.0.1:99999"]) {
    throws(() => config("--listen", listen), AgentConfigError, listen);
  }
  throws(
    () => readAgentConfig(["--listen", "10.0.0.1", "--identity-allocator", "a", "--policy-engine", "b"]),
    AgentConfigError,
  );
});

Deno.test("serviceSpecs() gives the access rows to the services that answer others, and the authority's own socket to it alone", () => {
  const kubernetes = ["--kubernetes", "--kubernetes-api-server", "https://172.30.0.1:6443"];
  const specs = serviceSpecs(
    config("--listen", "10.0.0.1", "--ipv4", "10.0.0.1", ...kubernetes),
    layout,
    "n",
  );
  for (const name of Object.keys(ACCESS)) {
    const { args } = specs.find((spec) => spec.name === name)!;
    match(args[args.indexOf("--access") + 1], /^control-plane,admin,viewer GET \/metrics; /);
  }
  const allocator = specs.find(({ name }) => name === "identity-allocator")!.args;
  equal(allocator[allocator.indexOf("--protected-prefixes") + 1], "10.0.0.1/32");
  // The socket that gives certificates is the authority's own: the others watch the one for reading.
  for (const { name, permissions, args } of specs) {
    const words = [...permissions, ...args].join(" ");
    const own = name === "certificate-authority",
      watches = !own && (ACCESS[name] !== undefined || ["flow-exporter", "relay"].includes(name));
    equal(words.includes("/certificate-authority.sock"), own, name);
    equal(words.includes("/certificate-authority-read.sock"), own || watches, name);
  }
  // No more connections than files that it may have open, with room for its own.
  for (
    const [openFilesMax, expected] of [[1024, "512"], [600, "300"], [65_536, "65024"], [undefined, undefined]]
  ) {
    const { args } = serviceSpecs(config("--listen", "10.0.0.1"), layout, "n", openFilesMax as number)
      .find(({ name }) => name === "identity-allocator")!;
    const at = args.indexOf("--connections-max");
    equal(at < 0 ? undefined : args[at + 1], expected);
  }
});

Deno.test("serviceSpecs() lets one service alone speak to Kubernetes, where it is asked for", () => {
  const find = (...args: string[]) =>
    serviceSpecs(config("--listen", "10.0.0.1", ...args), layout, "n").find(({ name }) =>
      name === "kubernetes"
    );
  equal(find(), undefined);
  const spec = find("--kubernetes", "--kubernetes-api-server", "https://172.30.0.1:6443")!;
  deepEqual(
    rightsOf(spec),
    [
      ...ALWAYS,
      ...speaksTo(
        "certificate-authority-read",
        "identity-allocator",
        "kubernetes-read",
        "load-balancer",
        "policy-engine",
      ),
      ...DATABASE,
      "read /run/secrets/kubernetes.io/serviceaccount",
      "read /var/run/secrets/kubernetes.io/serviceaccount",
      ...CERTIFICATE(),
      "net 10.0.0.1:7440",
      "net 10.0.0.1:7444",
      "net 172.30.0.1:6443",
    ].sort(),
  );
  throws(() => find("--kubernetes"), AgentConfigError, "no pod, and no URL");
  throws(() => find("--kubernetes", "--kubernetes-api-server", "ftp://x"), AgentConfigError);
  throws(
    () => readAgentConfig(["--kubernetes", "--identity-allocator", "a", "--policy-engine", "b"]),
    AgentConfigError,
  );
});

Deno.test("readAgentConfig() reads the host's configuration unless another is named", () => {
  const directory = Deno.makeTempDirSync();
  const [host, other] = [`${directory}/weir.yaml`, `${directory}/other.yaml`];
  Deno.writeTextFileSync(host, "controlPlane: true\nzone: a\n");
  Deno.writeTextFileSync(other, "controlPlane: true\nzone: b\n");
  const zone = (args: string[], configFile = host, env = (_: string): string | undefined => undefined) =>
    readAgentConfig(args, { configFile, env, membership: () => undefined }).zone;
  try {
    equal(zone([]), "a");
    equal(zone(["--zone", "c"]), "c");
    equal(zone(["--config", other]), "b");
    equal(zone([], host, (name) => name === "WEIR_CONFIG" ? other : undefined), "b");
    throws(() => zone([], `${directory}/none.yaml`), AgentConfigError);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

Deno.test("serviceSpecs() lets the flow exporter serve metrics where it is told to, and nowhere else", () => {
  const exporterOf = (...args: string[]) =>
    serviceSpecs(config(...args), layout, "n").find(({ name }) => name === "flow-exporter")!;
  const netOf = (...args: string[]) =>
    rightsOf(exporterOf(...args)).filter((right) => /net .*:9\d+$/.test(right));
  deepEqual(netOf(), []);
  deepEqual(netOf("--hubble-metrics-listen", "10.0.0.1"), ["net 10.0.0.1:9965"]);
  deepEqual(netOf("--hubble-metrics-listen", ":9100"), ["net [::]:9100"]);
  throws(
    () => exporterOf("--hubble-metrics-listen", "10.0.0.1:x"),
    /hubble-metrics-listen .*ADDRESS\[:9965\]/,
  );
  const { args } = exporterOf("--hubble-metrics", "");
  equal(args[args.indexOf("--hubble-metrics") + 1], "");
  throws(() => config("--hubble-metrics", "drop tpc"), /no metric "tpc"; expected .*port-distribution/);
});

Deno.test("serviceSpecs() lets the flow exporter write into the directories that flows are exported to, and nowhere else", () => {
  const exporterOf = (...args: string[]) =>
    serviceSpecs(config(...args), layout, "n").find(({ name }) => name === "flow-exporter")!;
  const more = (...args: string[]) => {
    const without = rightsOf(exporterOf());
    return rightsOf(exporterOf(...args)).filter((right) => !without.includes(right));
  };
  const file = ["--hubble-export-file-path", "/var/log/flows/events.log"];
  deepEqual(more(...file), ["rw /var/log/flows"]);
  deepEqual(more("--hubble-flowlogs-config-path", "/etc/weir/flowlogs.yaml"), [
    "read /etc/weir/flowlogs.yaml",
    "rw /var/log/weir",
  ]);
  const { args } = exporterOf(
    ...file,
    "--hubble-export-allowlist",
    '{"verdict":["DROPPED"]},{}',
    "--hubble-export-file-compress",
  );
  deepEqual(args.filter((word) => word.startsWith("--hubble-export")), [
    "--hubble-export-file-path=/var/log/flows/events.log",
    "--hubble-export-file-max-size-mb=10",
    "--hubble-export-file-max-backups=5",
    "--hubble-export-file-compress",
    '--hubble-export-allowlist={"verdict":["DROPPED"]},{}',
  ]);
  for (
    const own of ["/var/lib/weir/x/relay/e.log", "/run/weir/e.log", "/var/lib/e.log", "/run/weir/.code/e.log"]
  ) {
    throws(
      () => exporterOf("--hubble-export-file-path", own),
      /is Weir's own; expected another directory/,
      own,
    );
  }
  throws(() => exporterOf("--hubble-flowlogs-config-path", "x.yaml"), /expected an absolute path/);
  throws(
    () => exporterOf("--hubble-flowlogs-config-path", "/x.yaml", "--hubble-flowlogs-directory", "/"),
    /expected the absolute path of a directory/,
  );
  throws(() => config("--hubble-export-allowlist", "{"), AgentConfigError);
});

Deno.test("serviceSpecs() lets the flow exporter speak to the endpoint of OTLP, and keeps its headers out of its arguments", () => {
  const env = (name: string) => name === "WEIR_OTLP_HEADERS" ? "authorization=s3cret" : undefined;
  const withEndpoint = readAgentConfig(
    ["--control-plane", "--otlp-endpoint", "https://otel.example/prefix/"],
    { env },
  );
  const exporter = serviceSpecs(withEndpoint, layout, "n").find(({ name }) => name === "flow-exporter")!;
  equal(rightsOf(exporter).filter((right) => right === "net otel.example:443").length, 1);
  deepEqual(exporter.secrets, { WEIR_OTLP_HEADERS: "authorization=s3cret" });
  const command = commandOf(exporter, layout, "/code.js", "/deno.json").join(" ");
  match(
    command,
    /--otlp-endpoint=https:\/\/otel.example\/prefix\/ --otlp-compression=gzip --otlp-metrics-interval-s=60/,
  );
  const believing = config("--otlp-endpoint", "https://otel.example", "--otlp-ca-file", "/etc/otel/ca.crt");
  const reads = rightsOf(serviceSpecs(believing, layout, "n").find(({ name }) => name === "flow-exporter")!);
  equal(reads.includes("read /etc/otel/ca.crt"), true, reads.join("\n"));
  throws(() => config("--otlp-endpoint", "https://x", "--otlp-ca-file", "/etc/a,/etc"), AgentConfigError);
  equal(command.includes("s3cret"), false);
  throws(() => config("--otlp-headers", "a=b"), /WEIR_OTLP_HEADERS in the environment/);
  throws(() => config("--otlp-endpoint", "localhost"), AgentConfigError);
});

Deno.test("serviceSpecs() lets the L7 proxy connect to handles alone where Deno has words for them", () => {
  const proxyOf = (...args: string[]) =>
    serviceSpecs(config(...args), layout, "n").find(({ name }) => name === "l7-proxy");
  deepEqual(
    rightsOf(proxyOf("--l7-handle-prefix-v6", "", "--l7-handle-prefix-v4", "10.200.0.0/16")!),
    [
      ...ALWAYS,
      ...speaksTo("datapath-read", "l7-records", "endpoint-manager-names"),
      "rw l7-proxy",
      "--unstable-net",
      "net 10.200.0.0/16:15001",
      "net 10.200.0.0/16:1",
      "net 10.200.0.0/16:2",
      "net [::]:15001",
      "net 0.0.0.0:15001",
      "env WEIR_*",
    ].sort(),
  );
  deepEqual(prefixesBeside("192.0.0.0/2"), ["0.0.0.0/1", "128.0.0.0/2"]);
  deepEqual(prefixesBeside(""), ["0.0.0.0/0"]);
  deepEqual(rightsOf(proxyOf()!), PROXY);
  equal(proxyOf("--no-l7-proxy"), undefined);
  equal(proxyOf()!.args.includes("--shared-port"), false);
  for (
    const wrong of [["v4", "fd00::/64"], ["v4", "240.0.0.0/4"], ["v4", "x"], ["v6", "fd00::/48"], [
      "v6",
      "240.0.0.0/8",
    ]]
  ) {
    throws(() => config(`--l7-handle-prefix-${wrong[0]}`, wrong[1]), /Cannot take/);
  }
  throws(() => config("--l7-handle-prefix-v4", "", "--l7-handle-prefix-v6", ""), /without addresses/);
  throws(() => config("--l7-dns-denial", "silence"), /expected refused or nxdomain/);
});

Deno.test("commandOf() starts the processes of the L7 proxy, and no other, in its control group, which the datapath is told of", () => {
  const proxyCgroup = "/sys/fs/cgroup/weir-x-l7-proxy", own = { ...layout, proxyCgroup };
  for (const spec of serviceSpecs(config("--l7-proxy-workers", "2"), own, "n")) {
    const command = commandOf(spec, own, "/code.js", "/deno.json");
    equal(command[0], spec.name.startsWith("l7-proxy") ? "sh" : "setpriv", spec.name);
    equal(command.includes(proxyCgroup), /^(l7-proxy.*|datapath)$/.test(spec.name), spec.name);
  }
});

Deno.test("serviceSpecs() starts as many processes of the L7 proxy as are wanted, each with its own state, and tells the endpoint manager of all", () => {
  const specs = serviceSpecs(config("--l7-proxy-workers", "3"), layout, "n");
  const proxies = specs.filter(({ entry }) => entry === "services/l7-proxy/main.ts");
  const names = ["l7-proxy", "l7-proxy-2", "l7-proxy-3"];
  deepEqual(proxies.map(({ name }) => name), names);
  const after = (args: readonly string[], flag: string) => args[args.indexOf(flag) + 1];
  deepEqual(proxies.map(({ args }) => after(args, "--state")), names.map((name) => stateOf(layout, name)));
  equal(new Set(proxies.map(({ args }) => after(args, "--port"))).size, 1);
  equal(proxies.every(({ args }) => args.includes("--shared-port")), true);
  deepEqual(proxies.map(({ args }) => after(args, "--datagram-port")), ["15001", "15002", "15003"]);
  const manager = specs.find(({ name }) => name === "endpoint-manager")!;
  const sockets = names.map((name) => `unix:${socketOf(layout, name)}`);
  equal(after(manager.args, "--l7-proxy"), sockets.join(","));
  const words = manager.permissions.filter((flag) => flag.startsWith("--allow-net=")).join(",").split(",");
  for (const socket of sockets) equal(words.includes(socket), true, words.join(" "));
  throws(() => config("--l7-proxy-workers", "0"), /from 1 to 64/);
  throws(() => config("--l7-proxy-workers", "3", "--l7-proxy-port", "65534"), /each has one of the ports/);
  equal(config("--l7-proxy-workers", "2", "--l7-proxy-port", "65534").l7ProxyWorkers, 2);
});
