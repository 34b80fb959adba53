/**
 * The API server's objects: read, watched and written. Every request has a deadline, every answer a limit, and nothing is
 * tried again by itself but a token that was replaced: whoever calls knows what may be done twice.
 * @module
 */
import { type Clock, systemClock } from "@weir/common/clock";
import type { ApiAccess } from "./access.ts";
import { eventsOf, invalidAnswer, listOf, notAList, type WatchEvent } from "./answer.ts";
import { ApiServerError } from "./error.ts";
import { EXEC_PROTOCOL, execPath, type ExecProgram, ExecSession } from "./exec.ts";
import { jsonLines } from "./json_lines.ts";
import { isObject, type KubernetesObject, type ObjectList } from "./object.ts";
import { type PodPort, PORT_FORWARD_PROTOCOL, portForwardPath, PortSession } from "./port_forward.ts";
import { apiVersionOf, type Resource, resourceName, resourcePath } from "./resource.ts";
import { Silence } from "./silence.ts";
import { type ApiRequest, ApiTransport } from "./transport.ts";

/** Longest time for a request that is no list. */
export const REQUEST_MS_MAX = 15_000;
/** Longest time for one page of a list. */
export const PAGE_MS_MAX = 60_000;
/** Largest answer: a page of 500 objects of the largest size that etcd keeps is not met in practice. */
export const ANSWER_BYTES_MAX = 128 << 20;
/** Largest event of a watch: etcd keeps objects up to 1.5 MiB. */
export const EVENT_BYTES_MAX = 8 << 20;
/** Objects of a page. */
export const PAGE_OBJECTS = 500;
/** A watch that said nothing for so long is cut: bookmarks come about every minute. */
export const WATCH_SILENT_MS_MAX = 100_000;

/** What every request may be told. */
export interface RequestOptions {
  signal?: AbortSignal;
  /** Default {@link REQUEST_MS_MAX}, of lists {@link PAGE_MS_MAX}. */
  deadlineMs?: number;
}

/** Which objects a list or watch gives. */
export interface ListOptions extends RequestOptions {
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  /** `metadata` alone comes (PartialObjectMetadata). */
  metadataOnly?: boolean;
}

/** What a watch may be told. */
export interface WatchOptions extends ListOptions {
  /** Changes after this one; a list gave it, or an event. */
  resourceVersion: string;
  /** The API server ends the stream after so many seconds. */
  timeoutS?: number;
  /** Default {@link WATCH_SILENT_MS_MAX}. */
  silentMsMax?: number;
  /** When the API server has taken the watch: it need not say anything for a long time. */
  onOpen?: () => void;
}

/** Which object is written. */
export interface WriteOptions extends RequestOptions {
  subresource?: string;
  /** Checked, not stored. */
  dryRun?: boolean;
  /** Who owns the fields; default "weir". */
  fieldManager?: string;
}

/** What a change is written in: RFC 7396, RFC 6902, or Kubernetes' own form. */
export type PatchType = "merge" | "json" | "strategic";

const PATCH_TYPES: Record<PatchType, string> = {
  merge: "application/merge-patch+json",
  json: "application/json-patch+json",
  strategic: "application/strategic-merge-patch+json",
};
const FIELD_MANAGER = "weir";

/** Options of {@link ApiClient}. */
export interface ApiClientOptions {
  clock?: Clock;
}

/** Client of one API server. Every method rejects with {@link ApiServerError}, or with the reason of its `signal`. */
export class ApiClient {
  readonly clock: Clock;
  readonly #transport: ApiTransport;

  constructor(access: ApiAccess, { clock = systemClock }: ApiClientOptions = {}) {
    this.clock = clock;
    this.#transport = new ApiTransport(access, clock);
  }

  /** URL of the API server, for messages. */
  get server(): string {
    return this.#transport.server;
  }

  /** One page: of up to `limit` objects, from where `continue` of the page before says. */
  async list(
    resource: Resource,
    options: ListOptions & { limit?: number; continue?: string } = {},
  ): Promise<ObjectList> {
    const { limit = PAGE_OBJECTS, continue: from = "", deadlineMs = PAGE_MS_MAX } = options;
    const answer = await this.#json({
      action: `list ${resourceName(resource)}`,
      method: "GET",
      path: pathOf(resource, options, { limit, continue: from }),
      accept: options.metadataOnly ? METADATA_LIST : undefined,
    }, { ...options, deadlineMs });
    return listOf(answer, resource);
  }

  /** Every page of a list, one after the other; all are of one moment, whose `resourceVersion` each has. */
  async *pages(
    resource: Resource,
    options: ListOptions & { limit?: number } = {},
  ): AsyncGenerator<ObjectList> {
    let from = "";
    do {
      const page = await this.list(resource, { ...options, continue: from });
      yield page;
      if (page.continue === from && from !== "") throw notAList(resource, "a page that leads to itself");
      from = page.continue;
    } while (from !== "");
  }

  /**
   * What changes, in batches as it comes. Ends when the API server ends the stream, as it does after `timeoutS`.
   * @throws {ApiServerError} EXPIRED: what came after `resourceVersion` is not known any more, list anew; STREAM_SILENT
   */
  async *watch(resource: Resource, options: WatchOptions): AsyncGenerator<WatchEvent[]> {
    const { resourceVersion, timeoutS, silentMsMax = WATCH_SILENT_MS_MAX } = options;
    const action = `watch ${resourceName(resource)}`;
    const silence = new Silence(this.clock, silentMsMax, action, options.signal);
    const { signal } = silence;
    const query = { watch: true, allowWatchBookmarks: true, resourceVersion, timeoutSeconds: timeoutS };
    try {
      const body = await this.#transport.stream({
        action,
        method: "GET",
        path: pathOf(resource, options, query),
        accept: options.metadataOnly ? METADATA : undefined,
      }, { deadlineMs: options.deadlineMs ?? REQUEST_MS_MAX, signal });
      options.onOpen?.();
      silence.heard();
      for await (const documents of jsonLines(body, { action, bytesMax: EVENT_BYTES_MAX })) {
        silence.rest();
        const { events, error } = eventsOf(documents, action);
        if (events.length > 0) yield events;
        if (error !== undefined) throw error;
        silence.heard();
      }
    } catch (error) {
      if (options.signal?.aborted) throw options.signal.reason;
      if (signal.aborted) throw signal.reason;
      if (error instanceof ApiServerError) throw error;
      if (error instanceof Error && "problem" in error) throw error;
      throw new ApiServerError("STREAM_CUT", {
        status: 502,
        detail: `Cannot ${action}: the stream was cut: ${error instanceof Error ? error.message : error}`,
        cause: error,
      });
    } finally {
      silence.end();
    }
  }

  /** One object. @throws {ApiServerError} NOT_FOUND */
  async get(
    resource: Resource,
    name: string,
    options: RequestOptions & { namespace?: string; metadataOnly?: boolean; subresource?: string } = {},
  ): Promise<KubernetesObject> {
    const { namespace, subresource } = options;
    return await this.#object({
      action: `get ${whichOf(resource, name, namespace)}`,
      method: "GET",
      path: resourcePath(resource, { namespace, name, subresource }),
      accept: options.metadataOnly ? METADATA : undefined,
    }, options);
  }

  /** A new object. @throws {ApiServerError} ALREADY_EXISTS */
  async create(
    resource: Resource,
    object: KubernetesObject | Omit<KubernetesObject, "metadata">,
    options: WriteOptions & { namespace?: string; name?: string } = {},
  ): Promise<KubernetesObject> {
    const { metadata } = object as Partial<KubernetesObject>;
    const namespace = options.namespace ?? metadata?.namespace;
    // Of a subresource, such as a pod's eviction, the path has the name.
    const selection = options.subresource === undefined
      ? { namespace }
      : { namespace, name: options.name ?? metadata?.name, subresource: options.subresource };
    return await this.#write("create", "POST", {
      resource,
      name: metadata?.name ?? options.name ?? "",
      namespace,
      path: resourcePath(resource, selection),
      body: { apiVersion: apiVersionOf(resource), kind: resource.kind, ...object },
    }, options);
  }

  /** Replaces an object. With its `resourceVersion` only as it was read. @throws {ApiServerError} CONFLICT, NOT_FOUND */
  async update(
    resource: Resource,
    object: KubernetesObject,
    options: WriteOptions = {},
  ): Promise<KubernetesObject> {
    const { name, namespace } = object.metadata;
    return await this.#write("update", "PUT", {
      resource,
      name,
      namespace,
      path: resourcePath(resource, { namespace, name, subresource: options.subresource }),
      body: { apiVersion: apiVersionOf(resource), kind: resource.kind, ...object },
    }, options);
  }

  /** Replaces the status of an object. @throws {ApiServerError} CONFLICT, NOT_FOUND */
  updateStatus(
    resource: Resource,
    object: KubernetesObject,
    options: WriteOptions = {},
  ): Promise<KubernetesObject> {
    return this.update(resource, object, { ...options, subresource: "status" });
  }

  /** Changes fields of an object. @throws {ApiServerError} NOT_FOUND, INVALID; CONFLICT where the patch says a version */
  async patch(
    resource: Resource,
    name: string,
    patch: unknown,
    options: WriteOptions & { namespace?: string; type?: PatchType } = {},
  ): Promise<KubernetesObject> {
    const { namespace, subresource, type = "merge" } = options;
    return await this.#write("patch", "PATCH", {
      resource,
      name,
      namespace,
      path: resourcePath(resource, { namespace, name, subresource }),
      body: patch,
      contentType: PATCH_TYPES[type],
    }, options);
  }

  /**
   * Server-side apply: the object has these fields, and they are the field manager's from now on. Makes it where it is not
   * there. `force`: takes fields from other managers; otherwise they are a CONFLICT.
   */
  async apply(
    resource: Resource,
    object: KubernetesObject,
    options: WriteOptions & { force?: boolean } = {},
  ): Promise<KubernetesObject> {
    const { name, namespace } = object.metadata;
    return await this.#write("apply", "PATCH", {
      resource,
      name,
      namespace,
      path: resourcePath(resource, { namespace, name, subresource: options.subresource }),
      body: { apiVersion: apiVersionOf(resource), kind: resource.kind, ...object },
      contentType: "application/apply-patch+yaml",
      force: options.force,
    }, options);
  }

  /** Deletes an object; answers false when there was none. @throws {ApiServerError} CONFLICT: another uid or version */
  async delete(
    resource: Resource,
    name: string,
    options: RequestOptions & {
      namespace?: string;
      /** Only this very object. */
      uid?: string;
      /** Only as it was read. */
      resourceVersion?: string;
      propagation?: "Orphan" | "Background" | "Foreground";
      gracePeriodS?: number;
    } = {},
  ): Promise<boolean> {
    const { namespace, uid, resourceVersion, propagation, gracePeriodS } = options;
    try {
      await this.#json({
        action: `delete ${whichOf(resource, name, namespace)}`,
        method: "DELETE",
        path: resourcePath(resource, { namespace, name }),
        body: {
          apiVersion: "v1",
          kind: "DeleteOptions",
          propagationPolicy: propagation,
          gracePeriodSeconds: gracePeriodS,
          ...(uid === undefined && resourceVersion === undefined
            ? {}
            : { preconditions: { uid, resourceVersion } }),
        },
      }, options);
      return true;
    } catch (error) {
      if (error instanceof ApiServerError && error.code === "NOT_FOUND") return false;
      throw error;
    }
  }

  /** The answer of a path that has no objects, such as `/version` or `/readyz`, as text. */
  async text(path: string, options: RequestOptions & { bytesMax?: number } = {}): Promise<string> {
    return await this.#transport.text({
      action: `get ${path.split("?")[0]}`,
      method: "GET",
      path,
      accept: "*/*",
    }, {
      deadlineMs: options.deadlineMs ?? REQUEST_MS_MAX,
      bytesMax: options.bytesMax ?? ANSWER_BYTES_MAX,
      signal: options.signal,
    });
  }

  /** Runs a program in a container, and is connected with it. @throws {ApiServerError} NOT_FOUND, FORBIDDEN; INVALID: no such container */
  async exec(program: ExecProgram, options: RequestOptions = {}): Promise<ExecSession> {
    const action = `run ${program.command[0]} in Pod ${program.namespace}/${program.pod}`;
    return await this.#transport.socket(
      { action, path: execPath(program), protocol: EXEC_PROTOCOL },
      { deadlineMs: options.deadlineMs ?? REQUEST_MS_MAX, signal: options.signal },
      (socket) => new ExecSession(socket, action, program.unreadBytesMax),
    );
  }

  /** Opens a connection to a port of a pod. @throws {ApiServerError} NOT_FOUND, FORBIDDEN; who listens there is known later */
  async portForward(port: PodPort, options: RequestOptions = {}): Promise<PortSession> {
    const action = `reach port ${port.port} of Pod ${port.namespace}/${port.pod}`;
    return await this.#transport.socket(
      { action, path: portForwardPath(port), protocol: PORT_FORWARD_PROTOCOL },
      { deadlineMs: options.deadlineMs ?? REQUEST_MS_MAX, signal: options.signal },
      (socket) => new PortSession(socket, action, port.unreadBytesMax),
    );
  }

  /** Ends all connections. */
  close(): void {
    this.#transport.close();
  }

  async #write(
    verb: string,
    method: string,
    what: {
      resource: Resource;
      name: string;
      namespace?: string;
      path: string;
      body: unknown;
      contentType?: string;
      force?: boolean;
    },
    options: WriteOptions,
  ): Promise<KubernetesObject> {
    const { resource, name, namespace, path, body, contentType, force } = what;
    const query = queryText({
      fieldManager: options.fieldManager ?? FIELD_MANAGER,
      dryRun: options.dryRun ? "All" : undefined,
      force: force ? true : undefined,
    });
    const action = `${verb} ${whichOf(resource, name, namespace)}${
      options.subresource === undefined ? "" : ` ${options.subresource}`
    }`;
    return await this.#object({ action, method, path: path + query, body, contentType }, options);
  }

  async #object(request: ApiRequest, options: RequestOptions): Promise<KubernetesObject> {
    const answer = await this.#json(request, options);
    // Reviews have no name.
    if (isObject(answer) || request.method === "POST" && isDocument(answer)) {
      return answer as KubernetesObject;
    }
    throw invalidAnswer(request.action, "no object");
  }

  #json(request: ApiRequest, { signal, deadlineMs }: RequestOptions): Promise<unknown> {
    return this.#transport.json(request, {
      deadlineMs: deadlineMs ?? REQUEST_MS_MAX,
      bytesMax: ANSWER_BYTES_MAX,
      signal,
    });
  }
}

const METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

function isDocument(answer: unknown): boolean {
  return typeof answer === "object" && answer !== null && "kind" in answer;
}

function whichOf(resource: Resource, name: string, namespace: string | undefined): string {
  return `${resource.kind} ${namespace === undefined ? name : `${namespace}/${name}`}`;
}

function pathOf(
  resource: Resource,
  { namespace, labelSelector, fieldSelector }: ListOptions,
  query: Record<string, string | number | boolean | undefined>,
): string {
  return resourcePath(resource, { namespace }) + queryText({ labelSelector, fieldSelector, ...query });
}

function queryText(query: Record<string, string | number | boolean | undefined>): string {
  const parameters = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") parameters.append(key, String(value));
  }
  const text = parameters.toString();
  return text === "" ? "" : `?${text}`;
}
