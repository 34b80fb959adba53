/** The services as a sysdump has them: the same commands ask them, and nothing else is there. @module */
import { compileFilters, loadEngines, readFlowsQuery, readResponseMask } from "@weir/flow-filter";
import { concatBytes, delimit, encodeVarint, PROTOBUF_TYPE } from "@weir/common/framing";
import type { Handler } from "@weir/common/handler";
import { ProblemError } from "@weir/common/problem";
import { explainPast } from "@weir/policy-engine/past";
import { GetFlowsResponse } from "@weir/proto/observer";
import { Identity, IpcacheEntry } from "@weir/proto/identity";
import { ExplainRequest, ExplainResponse, Policy } from "@weir/proto/policy";
import { CommandContext, type CommandIo, type NodeTarget, type ServiceName, UsageError } from "../context.ts";
import { nowMs } from "../now.ts";
import type { LabRecord } from "../run_directory.ts";
import type { ArchiveFiles } from "./archive.ts";
import type { Manifest } from "./manifest.ts";
import { type AnyMessage, CLUSTER_QUESTIONS, fileOf, NODE_QUESTIONS, type Question } from "./questions.ts";

/** What a command sees when it looks into a sysdump. */
export class OfflineContext extends CommandContext {
  constructor(
    io: CommandIo,
    readonly only: { readonly node?: string },
    readonly manifest: Manifest,
    readonly files: ArchiveFiles,
  ) {
    super(io, {});
  }

  override lab(): LabRecord | undefined {
    return undefined;
  }

  override nodes(): NodeTarget[] {
    const { nodes } = this.manifest, { node } = this.only;
    if (node !== undefined && !nodes.includes(node)) {
      throw new UsageError(`Cannot find node "${node}" in the sysdump: it has ${nodes.join(", ")}`);
    }
    return nodes.filter((one) => node === undefined || one === node)
      .map((one) => ({ node: one, instance: one, directory: "" }));
  }

  override address(service: ServiceName): string {
    return `sysdump:${service}`;
  }

  override handler(service: ServiceName, target?: NodeTarget): Handler {
    const questions = CLUSTER_QUESTIONS[service] ?? NODE_QUESTIONS[service] ?? [];
    const directory = service in CLUSTER_QUESTIONS
      ? `cluster/${service}`
      : `nodes/${(target ?? this.node()).node}/${service}`;
    return (request) => this.#answer(request, service, questions, directory);
  }

  async #answer(
    request: Request,
    service: ServiceName,
    questions: readonly Question[],
    directory: string,
  ): Promise<Response> {
    const url = new URL(request.url), path = url.pathname;
    if (service === "policy-engine" && path === "/v1/explain") return await this.#explain(request);
    if (request.method !== "GET") {
      throw new ProblemError("READ_ONLY", {
        status: 405,
        detail: "Cannot change anything in a sysdump",
        action: "Run the command without weir sysdump explain",
      });
    }
    const [, collection, name] = /^\/v1\/([^/]+)(?:\/([^/]+))?$/.exec(path) ?? [];
    const found = questions.find((one) =>
      one.kind === "list" || one.kind === "each" ? one.name === collection : one.path.split("?")[0] === path
    );
    if (found === undefined) throw this.#missing(directory, path);
    const text = this.#read(`${directory}/${fileOf(found)}`, directory);
    switch (found.kind) {
      case "list":
      case "each":
        return listAnswer(text, found.message, url.searchParams, name && decodeURIComponent(name));
      case "call":
        return answer(found.message.encode(found.message.fromJson(JSON.parse(text))));
      case "stream":
        return await streamAnswer(text, found.message, url.searchParams);
      case "text":
        return new Response(text);
    }
  }

  /** The answer as it is in the archive. @throws {ProblemError} as the service failed when it was asked */
  #read(file: string, directory: string): string {
    const bytes = this.files.get(file);
    if (bytes !== undefined) return new TextDecoder().decode(bytes);
    throw this.#missing(directory, file);
  }

  #missing(directory: string, what: string): ProblemError {
    const failure = this.manifest.failures.find(({ file }) => file === what) ??
      this.manifest.failures.find(({ file, kind }) =>
        file.startsWith(`${directory}/`) && (kind === "hung" || kind === "away")
      );
    const error = failure?.error ?? `the sysdump does not have ${what}`;
    const code = failure?.kind === "hung" ? "DEADLINE_EXCEEDED" : "UNREACHABLE";
    return new ProblemError(code, { status: 503, detail: `When the sysdump was made: ${error}` });
  }

  /** By the policies, identities and addresses that it has. */
  async #explain(request: Request): Promise<Response> {
    const items = <T>(service: string, name: string, message: { fromJson(json: unknown): T }): T[] =>
      (JSON.parse(this.#read(`cluster/${service}/${name}.json`, `cluster/${service}`)) as {
        items: unknown[];
      })
        .items.map((item) => message.fromJson(item));
    const identities = items("identity-allocator", "identities", Identity);
    const prefix = "k8s:io.cilium.k8s.policy.cluster=";
    const cluster = identities.flatMap(({ labels }) => labels).find((label) => label.startsWith(prefix));
    const { response } = explainPast(ExplainRequest.decode(await request.bytes()), {
      policies: items("policy-engine", "policies", Policy),
      identities,
      addresses: items("identity-allocator", "ipcache", IpcacheEntry),
      cluster: cluster?.slice(prefix.length) ?? "default",
    });
    return answer(ExplainResponse.encode(response));
  }
}

function answer(bytes: Uint8Array, headers: Record<string, string> = {}): Response {
  return new Response(bytes as Uint8Array<ArrayBuffer>, {
    headers: { "content-type": PROTOBUF_TYPE, ...headers },
  });
}

type Item = Record<string, unknown>;

/** The object of this name, or those whose fields have the values that are asked for. */
function listAnswer(
  text: string,
  message: AnyMessage,
  query: URLSearchParams,
  name: string | undefined,
): Response {
  const { items, revision = 0 } = JSON.parse(text) as { items: Item[]; revision?: number };
  if (name !== undefined) {
    const found = items.find((item) => String(item.name ?? item.endpoint ?? item.number) === name);
    if (found !== undefined) return answer(message.encode(message.fromJson(found)));
    throw new ProblemError("NOT_FOUND", { status: 404, detail: `The sysdump has no ${name}` });
  }
  const asked = [...new Set(query.keys())].filter((key) => !["limit", "continue", "watch"].includes(key));
  const fits = items.filter((item) =>
    asked.every((key) => query.getAll(key).includes(String(item[key] ?? "")))
  );
  // Field 2 of any list message, see the client.
  const parts = fits.flatMap((item) => {
    const bytes = message.encode(message.fromJson(item));
    return [new Uint8Array([0x12]), encodeVarint(bytes.length), bytes];
  });
  return answer(concatBytes(parts), { "weir-revision": `${revision}` });
}

/** The lines that the query lets through, as the flow exporter would. Events have no filters here. */
async function streamAnswer(text: string, message: AnyMessage, query: URLSearchParams): Promise<Response> {
  const all = text.split("\n").filter((line) => line !== "").map((line) =>
    message.fromJson(JSON.parse(line))
  );
  const own = new URLSearchParams([...query].filter(([name]) => name !== "watch"));
  const isFlows = message.name === GetFlowsResponse.name;
  const chosen = isFlows ? await chooseFlows(all as GetFlowsResponse[], own) : all;
  return answer(concatBytes(chosen.map((one) => delimit(message.encode(one)))));
}

async function chooseFlows(
  all: readonly GetFlowsResponse[],
  query: URLSearchParams,
): Promise<GetFlowsResponse[]> {
  const asked = readFlowsQuery(query, nowMs());
  const { whitelist = [], blacklist = [], number = 0, first, since, until, field_mask } = asked;
  const passes = compileFilters(whitelist, blacklist, await loadEngines([...whitelist, ...blacklist]));
  const mask = readResponseMask(field_mask?.paths);
  const secondsOf = (time: { seconds?: number; nanos?: number } | undefined) =>
    time === undefined ? undefined : (time.seconds ?? 0) + (time.nanos ?? 0) / 1e9;
  const from = secondsOf(since) ?? -Infinity, to = secondsOf(until) ?? Infinity;
  const found = all.filter(({ flow, time }) => {
    const at = secondsOf(time) ?? 0;
    return flow !== undefined && at >= from && at <= to && passes(flow);
  });
  const isAll = number === 0 || number >= found.length;
  return (isAll ? found : first ? found.slice(0, number) : found.slice(-number)).map(mask);
}
