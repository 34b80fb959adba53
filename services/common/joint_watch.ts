/** `POST /v1/watch`: one stream of several collections of a service. @module */
import type { Context } from "hono";
import { type CollectionWatch, JointWatchRequest } from "@weir/proto/common";
import { checkWatch } from "./access_control.ts";
import { BODY_BYTES_MAX, readBody } from "./body.ts";
import { streamedAnswer, type WatchSource } from "./collection.ts";
import { concatBytes, decodeBody, encodingOfAccept, encodingOfContent } from "./framing.ts";
import { invalidArgument, type ProblemError } from "./problem.ts";
import { streamOf } from "./pulled_body.ts";
import { type BodyPart, encodeMark, encodeRefusal, WatchBody } from "./watch_body.ts";

/**
 * Opens the streams and answers with all of them in one body. Each collection's guard is asked, as for a stream of its own.
 * A collection that does not hold its position, or cannot answer yet, is GONE in it, unless that is so for all of them; any
 * other failure is that of the request.
 */
export async function jointWatch(c: Context, sources: ReadonlyMap<string, WatchSource>): Promise<Response> {
  const request = c.req.raw;
  const bytes = await readBody(request, BODY_BYTES_MAX);
  const { watches } = decodeBody(JointWatchRequest, bytes, encodingOfContent(c.req.header("content-type")));
  const names = watches.map(({ collection }) => collection);
  if (names.length === 0 || new Set(names).size !== names.length) {
    throw invalidArgument("Cannot watch: the collections of a joint stream are none, or one is there twice", {
      found: names.slice(0, 20).join(", "),
      expected: "each collection once",
    });
  }
  for (const name of names) {
    checkWatch(request, name);
    if (sources.has(name)) continue;
    throw invalidArgument("Cannot watch: there is no such collection", {
      found: name.slice(0, 80),
      expected: [...sources.keys()].join(", "),
    });
  }
  const encoding = encodingOfAccept(c.req.header("accept"));
  const parts: BodyPart[] = [], gone: Uint8Array[] = [];
  const refuse = (name: string, error: unknown) => {
    const { code, problem } = error as ProblemError;
    if (code === "REVISION_GONE") gone.push(encodeMark("GONE", name, encoding));
    else if (code === "NOT_READY") gone.push(encodeRefusal(name, problem, encoding));
    else throw error;
    if (gone.length === watches.length) throw error;
  };
  // All guards before the first stream: nothing lies between what they find and what the streams begin with.
  const admitted: CollectionWatch[] = [];
  for (const watch of watches) {
    try {
      await sources.get(watch.collection)!.guard(request);
      admitted.push(watch);
    } catch (error) {
      refuse(watch.collection, error);
    }
  }
  try {
    for (const watch of admitted) {
      try {
        const stream = sources.get(watch.collection)!.open(watch, encoding);
        parts.push({ stream, name: watch.collection });
      } catch (error) {
        refuse(watch.collection, error);
      }
    }
  } catch (error) {
    for (const { stream } of parts) stream.end(undefined);
    throw error;
  }
  const body = new WatchBody(parts, gone.length > 0 ? concatBytes(gone) : undefined);
  return streamedAnswer(streamOf(body), encoding);
}
