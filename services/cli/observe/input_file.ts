/**
 * `weir observe --input-file`: the filters of a node over flows in a file, one GetFlowsResponse in JSON a line, as
 * `-o json` prints them.
 *
 * @module
 */
import { InputFileError } from "@weir/common/input-file";
import { MessageError } from "@weir/proto";
import { GetFlowsResponse } from "@weir/proto/observer";

/** Longest line that is read, in UTF-16 units. */
export const LINE_LENGTH_MAX = 1 << 20;
/** Most flows that are held for `--last`. */
export const HELD_MAX = 1_000_000;

type Time = { readonly seconds: number; readonly nanos: number };
const isBefore = (a: Time, b: Time) =>
  a.seconds < b.seconds || (a.seconds === b.seconds && a.nanos < b.nanos);
const NO_TIME: Time = { seconds: 0, nanos: 0 };

/** The bytes of a file, a pipe, or stdin ("-"). @throws {InputFileError} it is not there, or a directory */
export async function openInput(path: string): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
  if (path === "-") return Deno.stdin.readable;
  try {
    if ((await Deno.stat(path)).isDirectory) throw new Error("it is a directory");
    return (await Deno.open(path)).readable;
  } catch (cause) {
    const { message } = cause as Error;
    throw new InputFileError(path, cause instanceof Deno.errors.NotFound ? "it is not there" : message, {
      cause,
    });
  }
}

/** Lines of bytes, without their ends. @throws {Error} a line is longer than {@link LINE_LENGTH_MAX} */
export async function* linesOf(bytes: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "", number = 1;
  for await (const text of bytes.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      number++;
      yield line;
    }
    if (rest.length > LINE_LENGTH_MAX) {
      throw new Error(`Cannot read line ${number}: it is longer than ${LINE_LENGTH_MAX} characters`);
    }
  }
  if (rest !== "") yield rest;
}

/** Fields of one line that are not known and may be left out. */
const UNKNOWN_MAX = 32;

/** Reads one line; fields that this version does not know are left out. @throws {Error} it is no flow in JSON */
function readLine(line: string, unknown: (path: string) => void): GetFlowsResponse {
  const json = JSON.parse(line);
  for (let left = UNKNOWN_MAX;; left--) {
    try {
      return GetFlowsResponse.fromJson(json);
    } catch (error) {
      if (!(error instanceof MessageError) || left === 0 || !error.message.includes("unknown field")) {
        throw error;
      }
      const names = error.path.replaceAll(/\[(\d+)\]/g, ".$1").split("."), last = names.pop()!;
      const holder = names.reduce((at, name) => at?.[name], json);
      if (holder === undefined || !Object.hasOwn(holder, last)) throw error;
      delete holder[last];
      unknown(error.path);
    }
  }
}

/**
 * The answers to a query from lines.
 * @param warn told of lines that are no flows, which are left out
 * @throws {ProblemError} QUERY_INVALID, FILTER_INVALID
 */
export async function* answerLines(
  lines: AsyncIterable<string>,
  query: Readonly<Record<string, readonly string[]>>,
  warn: (text: string) => void,
): AsyncGenerator<GetFlowsResponse> {
  const { compileFilters, loadEngines, readFlowsQuery, readResponseMask } = await import(
    "@weir/flow-filter"
  );
  const parameters = new URLSearchParams(
    Object.entries(query).flatMap(([name, values]) => values.map((value) => [name, value])),
  );
  const { whitelist = [], blacklist = [], number = 0, first, since, until, field_mask } = readFlowsQuery(
    parameters,
    Date.now(),
  );
  const passes = compileFilters(whitelist, blacklist, await loadEngines([...whitelist, ...blacklist]));
  const mask = readResponseMask(field_mask?.paths);
  const isLast = !first && number > 0 && number < Number.MAX_SAFE_INTEGER;
  if (isLast && number > HELD_MAX) {
    throw new Error(`Cannot hold the last ${number} flows: at most ${HELD_MAX}`);
  }
  const held: GetFlowsResponse[] = [];
  let count = 0, given = 0, isTold = false;
  const unknown = (path: string) => {
    if (!isTold) warn(`field ${path} is not known here, and left out`);
    isTold = true;
  };
  for await (const line of lines) {
    count++;
    if (line.trim() === "") continue;
    let answer: GetFlowsResponse;
    try {
      answer = readLine(line, unknown);
    } catch (error) {
      warn(`line ${count} is no flow, left out: ${(error as Error).message.slice(0, 200)}`);
      continue;
    }
    const time = answer.time ?? answer.flow?.time ?? NO_TIME;
    if (since && isBefore(time, { ...NO_TIME, ...since } as Time)) continue;
    if (until && isBefore({ ...NO_TIME, ...until } as Time, time)) continue;
    if (answer.flow !== undefined && !passes(answer.flow)) continue;
    if (isLast) {
      held.push(mask(answer));
      if (held.length >= 2 * number) held.splice(0, held.length - number);
      continue;
    }
    yield mask(answer);
    if (first && ++given >= number) return;
  }
  yield* held.slice(-number || held.length);
}
