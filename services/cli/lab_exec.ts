/**
 * `weir lab exec`: a command in a pod, on a node or outside, with our own stdin, stdout and stderr.
 *
 * @module
 */
import type { LabStatus } from "@weir/proto/lab";
import { parse } from "./args.ts";
import { type CommandContext, UsageError } from "./context.ts";
import { labStatus } from "./lab_client.ts";

const HINT = "weir help lab";

/** Runs the command; answers its exit code. */
export async function execInLab(args: string[], context: CommandContext): Promise<number> {
  const dashes = args.indexOf("--");
  const before = dashes < 0 ? args : args.slice(0, dashes);
  const command = dashes < 0 ? [] : args.slice(dashes + 1);
  const parsed = parse(before, {
    outside: { type: "boolean" },
    stdin: { type: "boolean", short: "i" },
    tty: { type: "boolean", short: "t" },
  }, HINT);
  if (command.length === 0) throw new UsageError("Say the command after --: weir lab exec POD -- CMD", HINT);
  if (Deno.uid() !== 0) throw new Error("Cannot enter the lab's namespaces: it needs root");
  const status = await labStatus(context);
  const { netns, environment } = placeOf(status, parsed.positionals, parsed.values.outside === true, context);
  // Names as its namespace sees them; on nodes and outside as "default" does.
  const { POD_NAMESPACE: namespace } = environment;
  const hosts = `${context.run.path}/lab/${status.name}/hosts${
    namespace === undefined ? "" : `.${namespace}`
  }`;
  // Killed with -9 we could pass nothing on: then the kernel kills the command for us.
  const child = new Deno.Command("setpriv", {
    args: [
      "--pdeathsig",
      "KILL",
      "nsenter",
      `--net=/run/netns/${netns}`,
      "--",
      "unshare",
      "--mount",
      "sh",
      "-c",
      'mount --bind "$0" /etc/hosts && exec "$@"',
      hosts,
      ...command,
    ],
    env: environment,
    stdin: "inherit",
    stdout: "inherit",
    stderr: "inherit",
  }).spawn();
  // The terminal sends Ctrl-C to the command too; we stay until it has ended, to pass its exit code on.
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(name, () => {
      try {
        if (name === "SIGTERM") child.kill(name);
      } catch {
        // It has ended meanwhile.
      }
    });
  }
  return (await child.status).code;
}

function placeOf(
  status: LabStatus,
  names: string[],
  outside: boolean,
  context: CommandContext,
): { netns: string; environment: Record<string, string> } {
  if (outside) {
    if (names.length > 0) throw new UsageError("Say either a pod or --outside", HINT);
    return { netns: status.outsideNetns, environment: { WEIR_LAB_PLACE: "outside" } };
  }
  if (names.length === 0 && context.flags.node !== undefined) {
    const node = status.nodes.find((node) => node.name === context.flags.node);
    if (node === undefined) {
      throw new UsageError(
        `Cannot find node "${context.flags.node}": the lab has ${
          status.nodes.map((node) => node.name).join(", ")
        }`,
      );
    }
    return { netns: node.netns, environment: { WEIR_LAB_PLACE: node.name } };
  }
  if (names.length !== 1) throw new UsageError("Say one pod, or --node NAME, or --outside", HINT);
  const wanted = names[0];
  const pod = findPod(status, wanted);
  return {
    netns: pod.netns,
    environment: {
      WEIR_LAB_PLACE: `${pod.namespace}/${pod.name}`,
      POD_NAME: pod.name,
      POD_NAMESPACE: pod.namespace,
      NODE_NAME: pod.node,
      HOSTNAME: pod.name,
    },
  };
}

/** "NAMESPACE/POD"; a bare name is a pod of "default", or the only pod of that name. */
function findPod(status: LabStatus, wanted: string): LabStatus["pods"][number] {
  const [namespace, name] = wanted.includes("/") ? wanted.split("/", 2) : [undefined, wanted];
  const named = status.pods.filter((pod) => pod.name === name);
  const exact = named.find((pod) => pod.namespace === (namespace ?? "default"));
  if (exact !== undefined) return exact;
  if (namespace === undefined && named.length === 1) return named[0];
  const known = (named.length > 0 ? named : status.pods).slice(0, 20).map((pod) =>
    `${pod.namespace}/${pod.name}`
  );
  throw new UsageError(`Cannot find pod "${wanted}": the lab has ${known.join(", ") || "no pods"}`);
}
