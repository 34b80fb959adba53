/**
 * The datapath's process.
 *
 *     main.ts --socket PATH --instance NAME [--object FILE] [--gate verifier|structural]
 *     main.ts uninstall [--instance NAME]
 *
 * Started with `nsenter --net=...` it serves that network namespace.
 *
 * @module
 */
import { ProblemError, runService } from "@weir/common";
import { SandboxVerifier, setFaultFile, StructuralVerifier, type Verifier } from "@weir/loader";
import { HANDLES_MAX } from "@weir/maps";
import { setSysctlDirectory } from "@weir/net";
import { createDatapath } from "./datapath.ts";
import { uninstall } from "./uninstall.ts";

if (Deno.args[0] === "uninstall") {
  const at = Deno.args.indexOf("--instance");
  const removed = uninstall(at < 0 ? undefined : Deno.args[at + 1]);
  console.log(
    `Removed ${removed.pins} pins, ${removed.devices} devices, ${removed.routes} routes` +
      ` of ${removed.instances.join(", ") || "no instance"}`,
  );
  Deno.exit(0);
}

runService({
  name: "datapath",
  config: {
    instance: { kind: "text", default: "host", description: "owner mark of everything in the kernel" },
    object: { kind: "text", default: defaultObject(), description: "built eBPF object" },
    gate: { kind: "text", default: "verifier", description: "verifier, or structural (no proof of safety)" },
    verdicts: {
      kind: "text",
      default: "/var/cache/weir-verdicts",
      description: "private directory for verdicts",
    },
    policyEntriesMax: {
      kind: "number",
      default: 16_384,
      min: 1,
      max: 1 << 20,
      description: "entries of one policy",
    },
    ctEntriesMax: { kind: "number", min: 16, max: 1 << 24, description: "flows of the node" },
    natEntriesMax: {
      kind: "number",
      min: 16,
      max: 1 << 24,
      description: "translated flows, two entries each",
    },
    handleEntriesMax: {
      kind: "number",
      min: 16,
      max: HANDLES_MAX,
      description: "connections that the L7 proxy judges at once",
    },
    ipcacheEntriesMax: { kind: "number", min: 16, max: 1 << 24, description: "addresses of the cluster" },
    eventRingBytes: {
      kind: "number",
      min: 1 << 18,
      max: 1 << 28,
      description: "size of the event ring, a power of two",
    },
    cgroupRoot: {
      kind: "text",
      default: "",
      description: "directory with the host's control groups (default: found)",
    },
    proxyCgroup: {
      kind: "text",
      default: "",
      description:
        "control group of the L7 proxy's processes: they alone may connect to handles, and to nothing else (default: whoever is its user may)",
    },
    sysctlDirectory: {
      kind: "text",
      default: "/proc/sys/net",
      description: "where the settings of /proc/sys/net can be written",
    },
    faultFile: {
      kind: "text",
      default: "",
      description: "file that names calls of the kernel that are to fail (tests)",
    },
    resyncS: {
      kind: "number",
      default: 10,
      min: 1,
      max: 3600,
      description: "seconds between looks at the devices",
    },
    gcS: {
      kind: "number",
      default: 30,
      min: 1,
      max: 3600,
      description: "seconds between collections of conntrack",
    },
  },
  async create({ config, clock, log, metrics, health, api }) {
    health.ok(
      "proxy-group",
      config.proxyCgroup || "none: whoever is the L7 proxy's user may connect to handles",
    );
    const mapSizes: Record<string, number> = {};
    if (config.ctEntriesMax !== undefined) mapSizes.weir_ct = config.ctEntriesMax;
    if (config.natEntriesMax !== undefined) mapSizes.weir_nat = config.natEntriesMax;
    if (config.handleEntriesMax !== undefined) {
      mapSizes.weir_handles = config.handleEntriesMax;
      mapSizes.weir_upstreams = 2 * config.handleEntriesMax;
    }
    if (config.ipcacheEntriesMax !== undefined) {
      mapSizes.weir_ipcache = mapSizes.weir_ipcache_exact = config.ipcacheEntriesMax;
    }
    if (config.eventRingBytes !== undefined) mapSizes.weir_events = powerOfTwo(config.eventRingBytes);
    if (config.faultFile !== "") {
      log.warn("Calls of the kernel fail as a file says", { file: config.faultFile });
      setFaultFile(config.faultFile);
    }
    setSysctlDirectory(config.sysctlDirectory);
    const datapath = await createDatapath({
      config: {
        instance: config.instance,
        object: await Deno.readFile(config.object),
        policyEntriesMax: config.policyEntriesMax,
        verdictDirectory: config.verdicts === "" ? undefined : config.verdicts,
        mapSizes,
        cgroupRoot: config.cgroupRoot || undefined,
        proxyCgroup: config.proxyCgroup || undefined,
        resyncMs: config.resyncS * 1000,
        gcMs: config.gcS * 1000,
      },
      verifier: verifierOf(config.gate),
      clock,
      log,
      metrics,
      api,
    });
    datapath.start();
    return { stop: () => datapath.stop() };
  },
});

function powerOfTwo(bytes: number): number {
  if (Number.isInteger(Math.log2(bytes))) return bytes;
  throw new ProblemError("CONFIG_INVALID", {
    detail: `Cannot make an event ring of ${bytes} bytes`,
    found: bytes,
    expected: "a power of two",
  });
}

function verifierOf(gate: string): Verifier {
  if (gate === "verifier") return new SandboxVerifier();
  if (gate === "structural") return new StructuralVerifier();
  throw new ProblemError("CONFIG_INVALID", {
    detail: `Cannot use gate ${gate}`,
    found: gate,
    expected: "structural or verifier",
  });
}

function defaultObject(): string {
  return new URL("../../.build/bpf/weir.o", import.meta.url).pathname;
}
