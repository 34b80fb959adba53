/** `weir config view|set`: the options of an installed Weir, its ConfigMap weir-config. @module */
import { ApiServerError, type KubernetesObject } from "@weir/kubernetes/api";
import { parse as parseYaml } from "yaml";
import { flag, noWords, parse } from "../args.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { unknownVerb } from "../suggestion.ts";
import { KUBERNETES_OPTIONS } from "../kubernetes_options.ts";
import { type NamedCluster, openCluster } from "./access.ts";
import { setOption } from "./chosen.ts";
import { FIELD_MANAGER, keepValues, keptValues } from "./install.ts";
import { KINDS } from "./kinds.ts";
import { configDigest, configText } from "./manifest.ts";
import type { Json } from "./values.ts";

const HINT = "weir help config";
const NAME = "weir-config", FILE = "weir.yaml";

/** Runs the command. */
export async function configCommand(args: string[], context: CommandContext): Promise<number> {
  const [verb, ...rest] = args;
  if (verb === "view") return await viewCommand(rest, context);
  if (verb === "set") return await setCommand(rest, context);
  throw unknownVerb("config", verb, ["view", "set"]);
}

async function viewCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, KUBERNETES_OPTIONS, HINT);
  noWords(parsed, HINT);
  using cluster = openCluster(context, HINT, parsed);
  context.io.out(`${textOf(await fetchConfig(cluster))}\n`);
  return 0;
}

async function setCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, { ...KUBERNETES_OPTIONS, "no-restart": { type: "boolean" } }, HINT);
  if (parsed.positionals.length === 0) {
    throw new UsageError("Say what is to be set: weir config set logLevel=debug; NAME= takes it away", HINT);
  }
  using cluster = openCluster(context, HINT, parsed);
  await changeConfig(cluster, (config) => {
    for (const word of parsed.positionals) {
      const at = word.indexOf("=");
      if (at <= 0) throw new UsageError(`Cannot take ${word}: expected NAME=VALUE`, HINT);
      config = setOption(config, word.slice(0, at), word.slice(at + 1), HINT);
    }
    return config;
  }, flag(parsed, "no-restart") ? [] : ["Deployment", "DaemonSet"]);
  context.io.out(
    flag(parsed, "no-restart")
      ? "It is written down, and holds when agents start next\n"
      : "Agents start anew one after the other; traffic goes on. weir status --kubernetes --wait\n",
  );
  return 0;
}

/** The parts of an installation that have the configuration. */
const PARTS = { Deployment: "weir-control-plane", DaemonSet: "weir-node" } as const;

/** Options as they are written down. @throws {ApiServerError} NOT_FOUND: Weir is not installed */
export async function readConfig(cluster: NamedCluster): Promise<Record<string, Json>> {
  return (parseYaml(textOf(await fetchConfig(cluster))) ?? {}) as Record<string, Json>;
}

/**
 * Changes the configuration. @param restart parts whose pods are made anew with it
 * @throws {ApiServerError} CONFLICT: somebody else changed it meanwhile
 */
export async function changeConfig(
  cluster: NamedCluster,
  change: (config: Record<string, Json>) => Record<string, Json>,
  restart: readonly (keyof typeof PARTS)[],
): Promise<void> {
  const { client, namespace } = cluster;
  const found = await fetchConfig(cluster);
  const config = change((parseYaml(textOf(found)) ?? {}) as Record<string, Json>);
  // As it was read: somebody else's change meanwhile is a conflict, and not lost.
  await client.update(KINDS.ConfigMap, {
    ...found,
    data: { ...found.data as Record<string, string>, [FILE]: configText(config) },
  }, { fieldManager: FIELD_MANAGER });
  const kept = await keptValues(cluster);
  if (kept !== undefined) await keepValues(cluster, { ...kept, config });
  const annotations = { "weir.dev/config-digest": configDigest(config) };
  const patch = { spec: { template: { metadata: { annotations } } } };
  for (const kind of restart) {
    await client.patch(KINDS[kind], PARTS[kind], patch, { namespace, fieldManager: FIELD_MANAGER });
  }
}

async function fetchConfig({ client, namespace }: NamedCluster): Promise<KubernetesObject> {
  try {
    return await client.get(KINDS.ConfigMap, NAME, { namespace });
  } catch (error) {
    if (!(error instanceof ApiServerError) || error.code !== "NOT_FOUND") throw error;
    throw new Error(
      `Weir is not installed in namespace ${namespace} of ${client.server}: it has no ConfigMap ${NAME}`,
      { cause: error },
    );
  }
}

function textOf({ data }: KubernetesObject): string {
  return ((data ?? {}) as Record<string, string>)[FILE] ?? "";
}
