/**
 * `weir policy apply|get|list|delete|confirm|rollback|pending|explain|check|matrix|diff|preview|recommend|accept-database`.
 *
 * @module
 */
import type { WeirClient } from "@weir/client";
import { findKind, MANIFEST_KINDS } from "@weir/common/manifest-kind";
import { ProblemError } from "@weir/common/problem";
import {
  ApplyRequest,
  ApplyResponse,
  DeleteRequest,
  Policy,
  type PolicyChange,
  PolicySelection,
  type Warning,
} from "@weir/proto/policy";
import { flag, noWords, parse, type ParsedArgs, text, texts } from "./args.ts";
import { clientOf } from "./clients.ts";
import { type CommandContext, UsageError } from "./context.ts";
import { readManifests } from "./manifest_files.ts";
import { age, type Column, deletedText, outputForm, render } from "./output.ts";
import { explainCommand } from "./explain/command.ts";
import {
  DATABASE_FAULT,
  type InForce,
  inForceOf,
  inForceText,
  nodePolicies,
  policyFaults,
  readTimeout,
  waitInForce,
} from "./policy_in_force.ts";
import {
  CONFIRM_FLAGS,
  confirmOf,
  confirmWithin,
  endPending,
  HOST_CONFIRM_S,
  pendingCommand,
  tellPending,
  warnOfPending,
} from "./policy_pending.ts";
import { didYouMean, unknownVerb } from "./suggestion.ts";
import { nowS } from "./now.ts";

const HINT = "weir help policy";
const VERBS = [
  "apply",
  "list",
  "get",
  "delete",
  "confirm",
  "rollback",
  "pending",
  "explain",
  "check",
  "matrix",
  "diff",
  "preview",
  "recommend",
  "accept-database",
];

/** Runs the command. */
export async function policyCommand(args: string[], context: CommandContext): Promise<number> {
  const [verb, ...rest] = args;
  switch (verb) {
    case "apply":
      return await apply(rest, context);
    case "list":
    case "ls":
      return await list(rest, context);
    case "get":
      return await get(rest, context);
    case "delete":
    case "remove":
      return await remove(rest, context);
    case "confirm":
    case "rollback":
      return await endPending(verb, rest, context);
    case "pending":
      return await pendingCommand(rest, context);
    case "explain":
      return await explainCommand(rest, context);
    case "check":
      return await (await import("./policy_files/check_command.ts")).checkCommand(rest, context);
    case "matrix":
      return await (await import("./policy_files/matrix_command.ts")).matrixCommand(rest, context);
    case "diff":
      return await (await import("./policy_files/diff_command.ts")).diffCommand(rest, context);
    case "preview":
      return await (await import("./policy_files/preview_command.ts")).previewCommand(rest, context);
    case "recommend":
      return await (await import("./policy_files/recommend_command.ts")).recommendCommand(rest, context);
    case "accept-database":
      return await acceptDatabase(rest, context);
    default:
      throw unknownVerb("policy", verb, VERBS);
  }
}

/** Every file is checked before the first is applied, so a fault in one leaves the policies as they were. */
async function apply(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    file: { type: "string", short: "f", multiple: true },
    namespace: { type: "string", short: "n" },
    "dry-run": { type: "boolean" },
    ...CONFIRM_FLAGS,
    ...WAIT_FLAGS,
  }, HINT);
  const timeoutS = timeoutOf(parsed);
  const paths = texts(parsed, "file");
  if (paths.length === 0 || parsed.positionals.length > 0) {
    throw new UsageError("Say what to apply: -f FILE, DIR or -", HINT);
  }
  const files = await readManifests(paths, context.io);
  const namespace = text(parsed, "namespace") ?? "";
  const dryRun = parsed.values["dry-run"] === true, asked = confirmOf(parsed);
  return await withEngine(context, async (client) => {
    const send = (file: string, manifest: string, dry: boolean) =>
      client.call("/v1/policies:apply", {
        request: { message: ApplyRequest, value: { manifest, file, namespace, dryRun: dry } },
        response: ApplyResponse,
      });
    const checked = [];
    for (const { file, text } of files) checked.push(await send(file, text, true));
    const results = dryRun ? checked : [];
    const mayCutOff = context.io.terminal && !flag(parsed, "no-confirm") &&
      checked.some(({ selectsHost }) => selectsHost);
    const confirm = asked ?? (mayCutOff ? confirmWithin(HOST_CONFIRM_S) : undefined);
    if (!dryRun && confirm !== undefined) {
      const texts = files.map(({ file, text }) => ({ file, manifest: text }));
      results.push(
        await client.call("/v1/policies:apply", {
          request: { message: ApplyRequest, value: { files: texts, namespace, ...confirm } },
          response: ApplyResponse,
        }),
      );
    } else if (!dryRun) {
      for (const { file, text } of files) results.push(await send(file, text, false));
    }
    for (const { items } of results) {
      for (const item of items) show(context, item, dryRun ? " (dry run)" : "");
    }
    if (dryRun) return 0;
    for (const { pending } of results) tellPending(context.io, pending);
    for (const [name, error] of await policyFaults(client)) {
      const what = name === DATABASE_FAULT ? error : `${name} is stored and cannot be put in force: ${error}`;
      context.io.err(`weir: warning: ${what}\n`);
    }
    if (timeoutS === undefined) return 0;
    const policyRevision = Math.max(...results.map((result) => result.policyRevision));
    return await waitInForce(context, client, { policyRevision, timeoutS });
  });
}

const WAIT_FLAGS = { "no-wait": { type: "boolean" }, timeout: { type: "string" } } as const;

/** How long to wait, in seconds; undefined with `--no-wait`. */
function timeoutOf(parsed: ParsedArgs): number | undefined {
  const timeoutS = readTimeout(text(parsed, "timeout"), HINT);
  return flag(parsed, "no-wait") ? undefined : timeoutS;
}

function show(context: CommandContext, { name, change, warnings }: PolicyChange, suffix = ""): void {
  context.io.out(`${name} ${change}${suffix}\n`);
  for (const { path, detail } of warnings) context.io.err(`weir: warning: ${name} ${path}: ${detail}\n`);
}

/** A policy, and where it is in force; undefined where the engine cannot say. */
type Row = Policy & {
  readonly inForce?: InForce;
  readonly error?: string;
  readonly selection?: PolicySelection;
};

const COLUMNS: Column<Row>[] = [
  { title: "NAMESPACE", cell: (policy) => policy.namespace },
  { title: "NAME", cell: (policy) => policy.policyName },
  { title: "KIND", cell: (policy) => policy.kind },
  { title: "MODE", cell: (policy) => policy.audit ? "audit" : "enforce" },
  {
    title: "IN FORCE",
    cell: ({ inForce, error }) =>
      error ? `no: ${error}` : inForce === undefined ? "unknown" : inForceText(inForce, nowS()),
  },
  {
    title: "SELECTS",
    cell: ({ selection }) => selection && (selection.endpoints === 0 ? "nobody" : selection.endpoints),
  },
  { title: "NODES", cell: ({ selection }) => selection?.nodes.join(","), wide: true },
  { title: "AGE", cell: (policy) => age(policy.createdUnixS, nowS()) },
  { title: "REVISION", cell: (policy) => policy.policyRevision, wide: true },
  { title: "OBJECT", cell: (policy) => policy.name, wide: true },
  { title: "FILE", cell: (policy) => policy.file === "" ? "" : `${policy.file}:${policy.line}` },
  { title: "WARNINGS", cell: (policy) => warningsOf(policy)[0]?.detail ?? "-" },
];

function warningsOf({ warnings, selection }: Row): readonly Warning[] {
  return [...warnings, ...selection?.warnings ?? []];
}

async function list(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    output: { type: "string", short: "o" },
    namespace: { type: "string", short: "n" },
    "all-namespaces": { type: "boolean", short: "A" },
    watch: { type: "boolean", short: "w" },
  }, HINT);
  noWords(parsed, HINT);
  const form = outputForm(text(parsed, "output"));
  const namespace = flag(parsed, "all-namespaces") ? undefined : text(parsed, "namespace");
  return await withEngine(context, async (client) => {
    const query = namespace === undefined ? undefined : { namespace };
    const { items, revision } = await client.collection("policies", Policy).list(query);
    const rows = await withNodes(client, items, namespace);
    const doubt = (await policyFaults(client)).get(DATABASE_FAULT);
    if (doubt !== undefined) context.io.err(`weir: warning: ${doubt}\n`);
    await warnOfPending(context.io, client);
    if (rows.length === 0 && form === "table") context.io.out("No policies\n");
    else {
      context.io.out(render(rows, COLUMNS, form, rows.map(toJson)));
    }
    if (!flag(parsed, "watch")) return 0;
    const signal = context.io.interrupted;
    for await (const event of client.collection("policies", Policy).watch({ revision, query, signal })) {
      if (event.type === "DELETED") context.io.out(deletedText(form, event.name));
      if (event.type !== "PUT") continue;
      const row = (await withNodes(client, [event.value])).find(({ name }) => name === event.value.name)!;
      const lines = render([row], COLUMNS, form, toJson(row));
      context.io.out(form === "json" || form === "yaml" ? lines : lines.split("\n").slice(1).join("\n"));
    }
    return 0;
  });
}

/** Where each is in force, and policies that are stored and cannot be decoded: only their names are known. Sorted. */
async function withNodes(
  client: WeirClient,
  policies: readonly Policy[],
  namespace?: string,
): Promise<Row[]> {
  const [nodes, faults, selections] = await Promise.all([
    nodePolicies(client),
    policyFaults(client),
    // An engine of an older version does not know.
    client.collection("policyselections", PolicySelection).list().then(({ items }) => items, () => []),
  ]);
  const selectionOf = new Map(selections.map((one) => [one.name, one]));
  const rows: Row[] = policies.map((policy) => ({
    ...policy,
    inForce: nodes && inForceOf(policy, nodes),
    error: faults.get(policy.name),
    selection: selectionOf.get(policy.name),
  }));
  const known = new Set(policies.map(({ name }) => name));
  for (const [name, error] of faults) {
    const row = known.has(name) || name === DATABASE_FAULT ? undefined : policyOfName(name);
    if (row && (namespace === undefined || row.namespace === namespace)) rows.push({ ...row, error });
  }
  return rows.sort((a, b) => a.name < b.name ? -1 : 1);
}

/** What the name of an object, e.g. `cnp:default/rule1`, tells of the policy. */
function policyOfName(name: string): Policy {
  const [prefix, rest = name] = name.split(":", 2), slash = rest.indexOf("/");
  return Policy.create({
    name,
    kind: Object.keys(MANIFEST_KINDS).find((kind) => findKind(kind)?.prefix === prefix) ?? "?",
    namespace: rest.slice(0, Math.max(0, slash)),
    policyName: rest.slice(slash + 1),
  });
}

function toJson({ inForce, error, selection, ...policy }: Row): unknown {
  return {
    ...Policy.toJson(policy) as Record<string, unknown>,
    inForce: inForce ?? null,
    error: error ?? "",
    selects: selection?.endpoints ?? null,
    selectsOn: selection?.nodes ?? null,
    warnings: warningsOf({ ...policy, selection }),
  };
}

async function get(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    output: { type: "string", short: "o" },
    namespace: { type: "string", short: "n" },
  }, HINT);
  const [name, ...more] = parsed.positionals;
  if (name === undefined || more.length > 0) throw new UsageError("Say the name of one policy", HINT);
  const form = text(parsed, "output");
  return await withEngine(context, async (client) => {
    const policy = await find(client, name, text(parsed, "namespace"));
    // Without -o the manifest itself, as it was given: what one would apply again.
    if (form === undefined) context.io.out(policy.manifest.replace(/\n*$/, "\n"));
    else {
      const row = (await withNodes(client, [policy])).find(({ name }) => name === policy.name)!;
      context.io.out(render([row], COLUMNS, outputForm(form), toJson(row)));
    }
    return 0;
  });
}

async function remove(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    file: { type: "string", short: "f", multiple: true },
    namespace: { type: "string", short: "n" },
    "confirm-within": CONFIRM_FLAGS["confirm-within"],
    ...WAIT_FLAGS,
  }, HINT);
  const timeoutS = timeoutOf(parsed);
  const paths = texts(parsed, "file"), confirm = confirmOf(parsed);
  const names = parsed.positionals;
  if ((paths.length === 0) === (names.length === 0)) {
    throw new UsageError("Say which policies to delete: names, or -f FILE", HINT);
  }
  const namespace = text(parsed, "namespace");
  return await withEngine(context, async (client) => {
    if (confirm !== undefined) {
      const objects = [];
      for (const name of names) objects.push((await find(client, name, namespace)).name);
      const files = (await readManifests(paths, context.io)).map(({ file, text }) => ({
        file,
        manifest: text,
      }));
      const { items, pending } = await client.call("/v1/policies:delete", {
        request: {
          message: DeleteRequest,
          value: { files, names: objects, namespace: namespace ?? "", ...confirm },
        },
        response: ApplyResponse,
      });
      for (const item of items) show(context, { ...item, warnings: [] });
      tellPending(context.io, pending);
      return timeoutS === undefined ? 0 : await waitInForce(context, client, { policyRevision: 0, timeoutS });
    }
    for (const name of names) {
      // What cannot be decoded is in no list; its whole name deletes it.
      const isUnread = name.includes(":") && (await policyFaults(client)).has(name);
      const object = isUnread ? name : (await find(client, name, namespace)).name;
      await client.collection("policies", Policy).delete(object);
      show(context, { name: object, change: "deleted", warnings: [] });
    }
    for (const { file, text } of await readManifests(paths, context.io)) {
      const { items } = await client.call("/v1/policies:delete", {
        request: { message: DeleteRequest, value: { manifest: text, file, namespace: namespace ?? "" } },
        response: ApplyResponse,
      });
      for (const item of items) show(context, { ...item, warnings: [] });
    }
    return timeoutS === undefined ? 0 : await waitInForce(context, client, { policyRevision: 0, timeoutS });
  });
}

async function acceptDatabase(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, WAIT_FLAGS, HINT);
  noWords(parsed, HINT);
  const timeoutS = timeoutOf(parsed);
  return await withEngine(context, async (client) => {
    const { items, policyRevision } = await client.call("/v1/policies:accept-database", {
      method: "POST",
      response: ApplyResponse,
    });
    for (const item of items) show(context, item, "");
    return timeoutS === undefined ? 0 : await waitInForce(context, client, { policyRevision, timeoutS });
  });
}

/** A policy by object name (`cnp:default/rule1`), by `NAMESPACE/NAME`, or by name alone where there is only one. */
async function find(client: WeirClient, name: string, namespace: string | undefined): Promise<Policy> {
  const policies = client.collection("policies", Policy);
  if (name.includes(":")) {
    const policy = await policies.get(name);
    if (policy) return policy;
  }
  const { items } = await policies.list();
  const matches = items.filter((policy) =>
    policy.policyName === name && (namespace === undefined || policy.namespace === namespace) ||
    `${policy.namespace}/${policy.policyName}` === name ||
    `${findKind(policy.kind)?.prefix}:${policy.policyName}` === name
  );
  if (matches.length === 1) return matches[0];
  if (matches.length > 1) {
    throw new UsageError(
      `${JSON.stringify(name)} may be ${matches.map((policy) => policy.name).join(" or ")}: say which`,
      HINT,
    );
  }
  throw new ProblemError("NOT_FOUND", {
    status: 404,
    detail: `Cannot find policy ${JSON.stringify(name)}${
      namespace === undefined ? "" : ` in namespace ${namespace}`
    }${
      didYouMean(
        name,
        items.flatMap((one) => [one.policyName, `${one.namespace}/${one.policyName}`, one.name]),
      )
    }`,
    action: "weir policy list shows the policies there are",
  });
}

async function withEngine<R>(context: CommandContext, run: (client: WeirClient) => Promise<R>): Promise<R> {
  const client = clientOf(context, "policy-engine");
  try {
    return await run(client);
  } finally {
    client.close();
  }
}
