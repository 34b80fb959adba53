/** What containers write. @module */
import type { ApiClient, RequestOptions } from "./client.ts";
import { resourcePath, RESOURCES } from "./resource.ts";

/** The longest line: the kubelet ends a log with a whole one, past the limit that it was given. */
const LINE_BYTES_MAX = 1 << 20;

/** Which log, and how much of it. */
export interface PodLog {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  /** Only what was written since then, as RFC 3339 has it. */
  readonly since?: string;
  /** Only the last so many lines. */
  readonly tailLines?: number;
  /** Of the container that ended before this one. */
  readonly isPrevious?: boolean;
  /** Only the first so many bytes of that. */
  readonly bytesMax: number;
}

/** What a container wrote. @throws {ApiServerError} NOT_FOUND; INVALID: it did not begin yet */
export async function fetchPodLog(
  client: ApiClient,
  log: PodLog,
  options: RequestOptions = {},
): Promise<string> {
  const { namespace, pod, container, since, tailLines, isPrevious = false, bytesMax } = log;
  const query = new URLSearchParams({ container, limitBytes: `${bytesMax}` });
  if (since !== undefined) query.set("sinceTime", since);
  if (tailLines !== undefined) query.set("tailLines", `${tailLines}`);
  if (isPrevious) query.set("previous", "true");
  const path = resourcePath(RESOURCES.Pod, { namespace, name: pod, subresource: "log" });
  return await client.text(`${path}?${query}`, { ...options, bytesMax: bytesMax + LINE_BYTES_MAX });
}
