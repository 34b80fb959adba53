/**
 * `weir policy apply|get|list|delete|explain`.
 *
 * @module
 */
import type { WeirClient } from "@weir/client";
import { ProblemError } from "@weir/common";
import { ApplyRequest, ApplyResponse, DeleteRequest, Policy, type PolicyChange } from "@weir/proto/policy";
import { parse, text, texts } from "./args.ts";
import { clientOf } from "./clients.ts";
import { type CommandContext, UsageError } from "./context.ts";
import { readManifests } from "./manifest_files.ts";
import { age, type Column, outputForm, render } from "./output.ts";
import { explain } from "./policy_explain.ts";

const HINT = "weir help policy";
const PREFIXES: Readonly<Record<string, string>> = {
  CiliumNetworkPolicy: "cnp",
  CiliumClusterwideNetworkPolicy: "ccnp",
  NetworkPolicy: "knp",
};

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
    case "explain":
      return await explain(rest, context);
    default:
      throw new UsageError(
        `Unknown verb "${verb ?? ""}" of policy: expected apply, list, get, delete or explain`,
        HINT,
      );
  }
}

/** Every file is checked before the first is applied, so a fault in one leaves the policies as they were. */
async function apply(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    file: { type: "string", short: "f", multiple: true },
    namespace: { type: "string", short: "n" },
    "dry-run": { type: "boolean" },
  }, HINT);
  const paths = texts(parsed, "file");
  if (paths.length === 0 || parsed.positionals.length > 0) {
    throw new UsageError("Say what to apply: -f FILE, DIR or -", HINT);
  }
  const files = await readManifests(paths, context.io);
  const namespace = text(parsed, "namespace") ?? "";
  const dryRun = parsed.values["dry-run"] === true;
  return await withEngine(context, async (client) => {
    const send = (file: string, manifest: string, dry: boolean) =>
      client.call("/v1/policies:apply", {
        request: { message: ApplyRequest, value: { manifest, file, namespace, dryRun: dry } },
        response: ApplyResponse,
      });
    const checked = [];
    for (const { file, text } of files) checked.push(await send(file, text, true));
    const results = dryRun ? checked : [];
    if (!dryRun) { for (const { file, text } of files) results.push(await send(file, text, false)); }
    for (const { items } of results) {
      for (const item of items) show(context, item, dryRun ? " (dry run)" : "");
    }
    return 0;
  });
}

function show(context: CommandContext, { name, change, warnings }: PolicyChange, suffix = ""): void {
  context.io.out(`${name} ${change}${suffix}\n`);
  for (const { path, detail } of warnings) context.io.err(`weir: warning: ${name} ${path}: ${detail}\n`);
}

const COLUMNS: Column<Policy>[] = [
  { title: "NAMESPACE", cell: (policy) => policy.namespace },
  { title: "NAME", cell: (policy) => policy.policyName },
  { title: "KIND", cell: (policy) => policy.kind },
  { title: "AGE", cell: (policy) => age(policy.createdUnixS, Date.now() / 1000) },
  { title: "REVISION", cell: (policy) => policy.policyRevision, wide: true },
  { title: "OBJECT", cell: (policy) => policy.name, wide: true },
  { title: "FILE", cell: (policy) => policy.file === "" ? "" : `${policy.file}:${policy.line}` },
  { title: "WARNINGS", cell: (policy) => policy.warnings.length },
];

async function list(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    output: { type: "string", short: "o" },
    namespace: { type: "string", short: "n" },
  }, HINT);
  const form = outputForm(text(parsed, "output"));
  const namespace = text(parsed, "namespace");
  return await withEngine(context, async (client) => {
    const query = namespace === undefined ? undefined : { namespace };
    const { items } = await client.collection("policies", Policy).list(query);
    items.sort((a, b) => a.name < b.name ? -1 : 1);
    if (items.length === 0 && form === "table") context.io.out("No policies\n");
    else context.io.out(render(items, COLUMNS, form, items.map((item) => Policy.toJson(item))));
    return 0;
  });
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
    if (form === undefined || form === "yaml") context.io.out(policy.manifest.replace(/\n*$/, "\n"));
    else context.io.out(render([policy], COLUMNS, outputForm(form), Policy.toJson(policy)));
    return 0;
  });
}

async function remove(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    file: { type: "string", short: "f", multiple: true },
    namespace: { type: "string", short: "n" },
  }, HINT);
  const paths = texts(parsed, "file");
  const names = parsed.positionals;
  if ((paths.length === 0) === (names.length === 0)) {
    throw new UsageError("Say which policies to delete: names, or -f FILE", HINT);
  }
  const namespace = text(parsed, "namespace");
  return await withEngine(context, async (client) => {
    for (const name of names) {
      const policy = await find(client, name, namespace);
      await client.collection("policies", Policy).delete(policy.name);
      show(context, { name: policy.name, change: "deleted", warnings: [] });
    }
    for (const { file, text } of await readManifests(paths, context.io)) {
      const { items } = await client.call("/v1/policies:delete", {
        request: { message: DeleteRequest, value: { manifest: text, file, namespace: namespace ?? "" } },
        response: ApplyResponse,
      });
      for (const item of items) show(context, { ...item, warnings: [] });
    }
    return 0;
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
    `${PREFIXES[policy.kind]}:${policy.policyName}` === name
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
