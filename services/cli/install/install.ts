/**
 * `weir install` and `weir upgrade`: Weir on a Kubernetes cluster, from where a kubeconfig is.
 *
 * @module
 */
import { WEIR_VERSION } from "@weir/common/version";
import { stringify } from "yaml";
import { flag, noWords, parse, type ParsedArgs, text, texts } from "../args.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { readManifest } from "../manifest_files.ts";
import { KUBERNETES_OPTIONS } from "../kubernetes_options.ts";
import { type NamedCluster, openCluster } from "./access.ts";
import { findApiServer } from "./api_server.ts";
import { fileValues, setValues } from "./chosen.ts";
import { kindOf, KINDS } from "./kinds.ts";
import { manifest } from "./manifest.ts";
import type { KubernetesObject } from "./objects.ts";
import { orMissing } from "./remains.ts";
import { type PartState, waitForPart } from "./rollout.ts";
import type { Json, Values } from "./values.ts";

/** Who owns the fields at the API server. */
export const FIELD_MANAGER = "weir-install";
/** ConfigMap with what was chosen, for an upgrade. */
export const VALUES_MAP = "weir-values";
const TIMEOUT_S_DEFAULT = 300;
const OPTIONS = {
  ...KUBERNETES_OPTIONS,
  "set": { type: "string", multiple: true },
  "values": { type: "string", short: "f" },
  "dry-run": { type: "boolean" },
  "wait": { type: "boolean" },
  "timeout": { type: "string" },
} as const;

/** `weir install`. */
export async function installCommand(args: string[], context: CommandContext): Promise<number> {
  const hint = "weir help install";
  const parsed = parse(args, OPTIONS, hint);
  noWords(parsed, hint);
  using cluster = openCluster(context, hint, parsed);
  if (await keptValues(cluster) !== undefined && !flag(parsed, "dry-run")) {
    throw new Error(
      `Cannot install: namespace ${cluster.namespace} of ${cluster.client.server} has Weir already; weir upgrade changes it`,
    );
  }
  return await bring(cluster, await chosenValues(parsed, {}, context, hint), parsed, context, false);
}

/** `weir upgrade`: what was chosen stays, but for the version. */
export async function upgradeCommand(args: string[], context: CommandContext): Promise<number> {
  const hint = "weir help upgrade";
  const parsed = parse(args, OPTIONS, hint);
  noWords(parsed, hint);
  using cluster = openCluster(context, hint, parsed);
  const kept = await keptValues(cluster);
  if (kept === undefined) {
    throw new Error(
      `Cannot upgrade: weir install has not been in namespace ${cluster.namespace} of ${cluster.client.server}`,
    );
  }
  const { "image.tag": _, ...stays } = kept;
  return await bring(cluster, await chosenValues(parsed, stays, context, hint), parsed, context, true);
}

/** Values that an installation was made with; undefined where there is none. */
export async function keptValues({ client, namespace }: NamedCluster): Promise<Values | undefined> {
  const found = await orMissing(() => client.get(KINDS.ConfigMap, VALUES_MAP, { namespace }));
  return found && JSON.parse((found.data as Record<string, string>)["values.json"]);
}

/** Writes down what was chosen. */
export async function keepValues({ client, namespace }: NamedCluster, values: Values): Promise<void> {
  await client.apply(KINDS.ConfigMap, {
    metadata: { name: VALUES_MAP, namespace },
    data: { "values.json": JSON.stringify(values) },
  }, { fieldManager: FIELD_MANAGER, force: true });
}

async function chosenValues(
  parsed: ParsedArgs,
  before: Values,
  context: CommandContext,
  hint: string,
): Promise<Values> {
  const file = text(parsed, "values");
  const fromFile = file === undefined ? {} : fileValues((await readManifest(file, context.io)).text, hint);
  return setValues(texts(parsed, "set"), { ...before, ...fromFile }, hint);
}

async function bring(
  cluster: NamedCluster,
  chosen: Values,
  parsed: ParsedArgs,
  context: CommandContext,
  isUpgrade: boolean,
): Promise<number> {
  const { client, namespace } = cluster, { io } = context;
  const timeoutS = Number(text(parsed, "timeout") ?? TIMEOUT_S_DEFAULT);
  if (!(timeoutS > 0)) throw new UsageError("--timeout takes seconds");
  const apiServer = chosen.apiServer ?? await findApiServer(client);
  const nodeSelector = chosen["controlPlane.nodeSelector"] ?? await homeOf(cluster);
  const objects = manifest({ ...chosen, apiServer, "controlPlane.nodeSelector": nodeSelector }, namespace);
  if (flag(parsed, "dry-run")) {
    io.out(
      objects.map((object) => `---\n${stringify(object, { lineWidth: 0, aliasDuplicateObjects: false })}`)
        .join(""),
    );
    return 0;
  }
  const before = isUpgrade ? await runningTag(cluster) : undefined,
    tag = String(chosen["image.tag"] ?? WEIR_VERSION);
  io.err(
    isUpgrade
      ? `Weir in namespace ${namespace} of ${client.server}: ${before ?? "?"} to ${tag}\n`
      : `Weir ${tag} comes to namespace ${namespace} of ${client.server}\n`,
  );
  if (apiServer !== "") io.err(`The control plane asks the API server at ${apiServer}\n`);
  const isWaiting = flag(parsed, "wait");
  const report = (said: string) => io.err(`${said}\n`);
  const wait = { deadlineMs: performance.now() + timeoutS * 1000, signal: io.interrupted, report };
  for (const object of objects) {
    await apply(cluster, object);
    if (object.kind === "Namespace") await keepValues(cluster, chosen);
    // A node's agent may be older than its control plane, not newer.
    if (object.kind === "Deployment" && (isWaiting || isUpgrade)) {
      const state = await waitForPart(cluster, "Deployment", object.metadata.name, wait);
      if (state?.whole) continue;
      failed(state, object, context);
      if (isUpgrade) io.err(`${stoppedText(before, tag)}\n`);
      return 1;
    }
  }
  if (!isWaiting) {
    const rest = isUpgrade ? "The control plane is new; nodes follow one after the other. " : "";
    io.out(`${rest}weir status --kubernetes --wait says when all is ready\n`);
    return 0;
  }
  const state = await waitForPart(cluster, "DaemonSet", "weir-node", wait);
  if (!state?.whole) return failed(state, { kind: "DaemonSet", metadata: { name: "weir-node" } }, context);
  io.out(`Weir ${tag} is ready on ${state.ready} ${state.ready === 1 ? "node" : "nodes"}\n`);
  return 0;
}

/** What holds when the new control plane does not get ready. */
function stoppedText(before: string | undefined, tag: string): string {
  const back = before === undefined || before === tag
    ? ""
    : `, or the former version again: weir upgrade --set image.tag=${before}`;
  return `Nodes were not touched: they keep their version, and traffic goes on by what it knows. Mend it and say weir upgrade again${back}`;
}

/** Version of the control plane that is there; undefined: none is. */
async function runningTag({ client, namespace }: NamedCluster): Promise<string | undefined> {
  const found = await orMissing(() => client.get(KINDS.Deployment, "weir-control-plane", { namespace }));
  const image: unknown = found?.spec?.template?.spec?.containers?.[0]?.image;
  return typeof image === "string" ? /:([^:/@]+)(?:@|$)/.exec(image)?.[1] : undefined;
}

/** The control plane's database is on its node: it stays where it is, and begins on a control plane's node, else on the first. */
async function homeOf({ client, namespace }: NamedCluster): Promise<Record<string, Json>> {
  const labelSelector = "app.kubernetes.io/name=weir,app.kubernetes.io/component=control-plane";
  const { items: pods } = await client.list(KINDS.Pod, { namespace, labelSelector });
  const { items: nodes } = await client.list(KINDS.Node);
  const label = "kubernetes.io/hostname";
  const home = nodes.find(({ metadata }) => pods.some(({ spec }) => spec?.nodeName === metadata.name)) ??
    nodes.find(({ metadata }) => metadata.labels?.["node-role.kubernetes.io/control-plane"] !== undefined) ??
    nodes[0];
  const host = home?.metadata.labels?.[label];
  return { "kubernetes.io/os": "linux", ...(host === undefined ? {} : { [label]: host }) };
}

async function apply({ client }: NamedCluster, object: KubernetesObject): Promise<void> {
  await client.apply(kindOf(object), object as never, { fieldManager: FIELD_MANAGER, force: true });
}

/** Says what keeps a part from being ready. @returns the exit code */
export function failed(
  state: PartState | undefined,
  { kind, metadata: { name } }: { kind: string; metadata: { name: string } },
  { io }: CommandContext,
): number {
  const { ready = 0, updated = 0, wanted = "?", troubles = [] } = state ?? {};
  const why = io.interrupted.aborted ? "interrupted: " : "";
  io.err(
    `weir: ${why}${kind} ${name} is not ready: of ${wanted} pods ${ready} are ready, ${updated} of the new version\n`,
  );
  for (const trouble of troubles) io.err(`  ${trouble}\n`);
  return 1;
}
