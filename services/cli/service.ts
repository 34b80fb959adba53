/**
 * `weir service list|get|apply|delete|backend|pool`.
 *
 * @module
 */
import type { WeirClient } from "@weir/client";
import { ProblemError } from "@weir/common/problem";
import {
  ApplyRequest,
  ApplyResponse,
  Backend,
  BackendOverride,
  type BackendState,
  type Change,
  Service,
} from "@weir/proto/loadbalancer";
import { flag, parse, text, texts } from "./args.ts";
import { clientOf } from "./clients.ts";
import { type CommandContext, UsageError } from "./context.ts";
import { readManifests } from "./manifest_files.ts";
import { deletedText, outputForm, render } from "./output.ts";
import { poolCommand } from "./service_pool.ts";
import { describeService, SERVICE_COLUMNS } from "./service_text.ts";
import { didYouMean, unknownVerb } from "./suggestion.ts";
import { nowS } from "./now.ts";

const HINT = "weir help service";
const STATES: Readonly<Record<string, BackendState>> = {
  active: "ACTIVE",
  maintenance: "MAINTENANCE",
  quarantined: "QUARANTINED",
};

/** Runs the command. */
export async function serviceCommand(args: string[], context: CommandContext): Promise<number> {
  const [verb, ...rest] = args;
  const verbs: Record<string, (args: string[], client: WeirClient) => Promise<number>> = {
    list: (args, client) => list(args, context, client),
    get: (args, client) => get(args, context, client),
    apply: (args, client) => apply(args, context, client),
    delete: (args, client) => remove(args, context, client),
    backend: (args, client) => backend(args, context, client),
    pool: (args, client) => poolCommand(args, context, client),
  };
  const name = { ls: "list", remove: "delete", describe: "get" }[verb ?? ""] ?? verb ?? "";
  if (!Object.hasOwn(verbs, name)) throw unknownVerb("service", verb, Object.keys(verbs));
  const client = clientOf(context, "load-balancer");
  try {
    return await verbs[name](rest, client);
  } finally {
    client.close();
  }
}

async function list(args: string[], context: CommandContext, client: WeirClient): Promise<number> {
  const parsed = parse(args, {
    output: { type: "string", short: "o" },
    namespace: { type: "string", short: "n" },
    "all-namespaces": { type: "boolean", short: "A" },
    watch: { type: "boolean", short: "w" },
  }, HINT);
  if (parsed.positionals.length > 0) throw new UsageError("list takes no names: weir service get NAME", HINT);
  const form = outputForm(text(parsed, "output"));
  const namespace = text(parsed, "namespace");
  const services = client.collection("services", Service);
  const query = namespace === undefined ? undefined : { namespace };
  const { items, revision } = await services.list(query);
  items.sort((a, b) => a.name < b.name ? -1 : 1);
  if (items.length === 0 && form === "table") context.io.out("No services\n");
  else context.io.out(render(items, SERVICE_COLUMNS, form, items.map((item) => Service.toJson(item))));
  if (!flag(parsed, "watch")) return 0;
  for await (const event of services.watch({ revision, query, signal: context.io.interrupted })) {
    if (event.type === "DELETED") context.io.out(deletedText(form, event.name));
    if (event.type !== "PUT") continue;
    const lines = render([event.value], SERVICE_COLUMNS, form, Service.toJson(event.value));
    context.io.out(form === "json" || form === "yaml" ? lines : lines.split("\n").slice(1).join("\n"));
  }
  return 0;
}

async function get(args: string[], context: CommandContext, client: WeirClient): Promise<number> {
  const parsed = parse(args, {
    output: { type: "string", short: "o" },
    namespace: { type: "string", short: "n" },
  }, HINT);
  const [name, ...more] = parsed.positionals;
  if (name === undefined || more.length > 0) throw new UsageError("Say the name of one service", HINT);
  const service = await find(client, name, text(parsed, "namespace"));
  const backends = await backendsOf(client, service);
  const form = text(parsed, "output");
  if (form === undefined) {
    context.io.out(describeService(service, backends, nowS()));
    return 0;
  }
  const whole = {
    ...Service.toJson(service) as Record<string, unknown>,
    backendList: backends.map((one) => Backend.toJson(one)),
  };
  context.io.out(render([service], SERVICE_COLUMNS, outputForm(form), whole));
  return 0;
}

/** Every file is checked before the first is applied, so a fault in one leaves the services as they were. */
async function apply(args: string[], context: CommandContext, client: WeirClient): Promise<number> {
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
  const send = async (dryRun: boolean) => {
    const items: Change[] = [];
    for (const { file, text: manifest } of files) {
      items.push(...(await call(client, "apply", { manifest, file, namespace, dryRun })).items);
    }
    return items;
  };
  const dryRun = flag(parsed, "dry-run");
  const checked = dryRun || files.length > 1 ? await send(true) : [];
  for (const item of dryRun ? checked : await send(false)) say(context, item, dryRun ? " (dry run)" : "");
  return 0;
}

async function remove(args: string[], context: CommandContext, client: WeirClient): Promise<number> {
  const parsed = parse(args, {
    file: { type: "string", short: "f", multiple: true },
    namespace: { type: "string", short: "n" },
  }, HINT);
  const paths = texts(parsed, "file"), names = parsed.positionals;
  if ((paths.length === 0) === (names.length === 0)) {
    throw new UsageError("Say which services to delete: names, or -f FILE", HINT);
  }
  const namespace = text(parsed, "namespace");
  for (const name of names) {
    const service = await find(client, name, namespace);
    if (service.type === "HostPort") {
      throw new UsageError(`${service.name} are the host ports of a pod: they go with it`, HINT);
    }
    await client.collection("services", Service).delete(service.name);
    context.io.out(`service/${service.name} deleted\n`);
  }
  for (const { file, text: manifest } of await readManifests(paths, context.io)) {
    const { items } = await call(client, "delete", {
      manifest,
      file,
      namespace: namespace ?? "",
      dryRun: false,
    });
    for (const item of items) say(context, item);
  }
  return 0;
}

/** `weir service backend NAME ADDRESS --state maintenance --weight 5 | --clear`. */
async function backend(args: string[], context: CommandContext, client: WeirClient): Promise<number> {
  const parsed = parse(args, {
    namespace: { type: "string", short: "n" },
    state: { type: "string" },
    weight: { type: "string" },
    clear: { type: "boolean" },
  }, HINT);
  const [name, address, ...more] = parsed.positionals;
  if (address === undefined || more.length > 0) {
    throw new UsageError("Say a service and the address of one of its backends", HINT);
  }
  const state = text(parsed, "state"), weight = text(parsed, "weight");
  if (flag(parsed, "clear") === (state !== undefined || weight !== undefined)) {
    throw new UsageError("Say --state, --weight, or --clear", HINT);
  }
  if (state !== undefined && !Object.hasOwn(STATES, state)) {
    throw new UsageError(`--state is "${state}": expected ${Object.keys(STATES).join(", ")}`, HINT);
  }
  const number = weight === undefined ? 0 : Number(weight);
  if (weight !== undefined && !(Number.isInteger(number) && number >= 1 && number <= 100)) {
    throw new UsageError(`--weight is "${weight}": expected 1 to 100`, HINT);
  }
  const service = await find(client, name, text(parsed, "namespace"));
  const known = await backendsOf(client, service);
  const overrides = client.collection("backendoverrides", BackendOverride);
  const key = `${service.name}/${address}`;
  const before = await overrides.get(key);
  if (flag(parsed, "clear")) {
    await overrides.delete(key);
    context.io.out(`backend ${address} of ${service.name} is as its source says\n`);
    return 0;
  }
  await overrides.put(key, {
    state: state === undefined ? before?.state : STATES[state],
    weight: weight === undefined ? before?.weight : number,
  });
  const there = known.some((one) => one.address === address) ? "" : " (it is no backend now)";
  context.io.out(
    `backend ${address} of ${service.name}: ${
      [state, weight === undefined ? undefined : `weight ${weight}`].filter((part) => part !== undefined)
        .join(", ")
    }${there}\n`,
  );
  return 0;
}

async function call(
  client: WeirClient,
  verb: "apply" | "delete",
  value: { manifest: string; file: string; namespace: string; dryRun: boolean },
): Promise<ApplyResponse> {
  return await client.call(`/v1/services:${verb}`, {
    request: { message: ApplyRequest, value },
    response: ApplyResponse,
    deadlineMs: 60_000,
  });
}

function say(context: CommandContext, { kind, name, change, warnings }: Change, suffix = ""): void {
  context.io.out(`${kind.toLowerCase()}/${name} ${change}${suffix}\n`);
  for (const warning of warnings) {
    context.io.err(`weir: warning: ${kind.toLowerCase()}/${name}: ${warning}\n`);
  }
}

/** A service by `NAMESPACE/NAME`, or by name: that of `-n` or "default", else the only one so called. */
async function find(client: WeirClient, name: string, namespace: string | undefined): Promise<Service> {
  const services = client.collection("services", Service);
  const exact = await services.get(name.includes("/") ? name : `${namespace ?? "default"}/${name}`);
  if (exact !== undefined) return exact;
  const { items } = await services.list();
  if (namespace === undefined && !name.includes("/")) {
    const named = items.filter((service) => service.serviceName === name && service.type !== "HostPort");
    if (named.length === 1) return named[0];
    if (named.length > 1) {
      throw new UsageError(
        `${JSON.stringify(name)} may be ${named.map((service) => service.name).join(" or ")}: say which`,
        HINT,
      );
    }
  }
  throw new ProblemError("NOT_FOUND", {
    status: 404,
    detail: `Cannot find service ${JSON.stringify(name)}${
      namespace === undefined ? "" : ` in namespace ${namespace}`
    }${didYouMean(name, items.flatMap((one) => [one.serviceName, one.name]))}`,
    action: "weir service list shows the services there are",
  });
}

async function backendsOf(client: WeirClient, service: Service): Promise<Backend[]> {
  if (service.ports.length === 0) return [];
  const { items } = await client.collection("backends", Backend).list({
    service: service.ports.map(({ id }) => id),
  });
  return items;
}
