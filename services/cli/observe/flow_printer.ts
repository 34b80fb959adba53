/**
 * Flows as text, in the shapes that people know from `hubble observe`.
 *
 * @module
 */
import { Flow } from "@weir/proto/flow";
import { GetFlowsResponse } from "@weir/proto/observer";
import { harmless } from "../harmless_text.ts";
import { table } from "../output.ts";
import { type FlowWords, flowWords, type WordOptions } from "./flow_words.ts";
import { type Time, timeText } from "./time_text.ts";

/** Forms of `weir observe -o`. */
export type FlowForm = "compact" | "dict" | "json" | "jsonpb" | "table";
/** The forms, as they may be said. */
export const FLOW_FORMS: readonly string[] = ["compact", "dict", "json", "jsonpb", "table", "tab"];

/** How flows are printed. */
export interface PrintOptions extends WordOptions {
  readonly form: FlowForm;
  readonly node: boolean;
  readonly timeFormat: string;
  /** JSON of the flow alone, as clients before 1.0 had it (HUBBLE_COMPAT=legacy-json-output). */
  readonly bareJson?: boolean;
}

const SEPARATOR = "------------\n";
const TITLES = ["SOURCE", "DESTINATION", "TYPE", "VERDICT", "SUMMARY"];

/** Makes text of one answer after the other. */
export class FlowPrinter {
  readonly #options: PrintOptions;
  readonly #rows: string[][] = [];
  #printed = 0;

  constructor(options: PrintOptions) {
    // Tables are padded by what is seen.
    this.#options = options.form === "table" ? { ...options, colours: false } : options;
  }

  /** The text of an answer with its newline; "" where it belongs into a table, which {@link end} prints, or is nothing to see. */
  text(answer: GetFlowsResponse): string {
    const { form } = this.#options;
    if (form === "json" || form === "jsonpb") {
      const bare = this.#options.bareJson && answer.flow !== undefined;
      return `${JSON.stringify(bare ? Flow.toJson(answer.flow!) : GetFlowsResponse.toJson(answer))}\n`;
    }
    const rows = this.#rowsOf(answer);
    if (rows === undefined) return "";
    if (form === "table") {
      this.#rows.push(rows.map(([, value]) => value));
      return "";
    }
    if (form === "dict") {
      const text = rows.filter(([title, value]) => title !== "DESTINATION" || value !== "-")
        .map(([title, value]) => `${title.padStart(11)}: ${value}\n`).join("");
      return this.#printed++ === 0 ? text : SEPARATOR + text;
    }
    return answer.flow === undefined ? this.#lostLine(answer) : this.#line(answer);
  }

  /** What was said for a person's eyes beside the flows: a node that is away. */
  warning({ node_status, time, node_name }: GetFlowsResponse): string {
    if (node_status === undefined) return "";
    const { state_change: state, node_names, message } = node_status;
    const prefix = `${this.#time(time)} [${harmless(node_name)}]`, names = harmless(node_names.join(", "));
    if (state === "NODE_UNAVAILABLE") {
      return `${prefix}: ${node_names.length} nodes are unavailable: ${names}\n`;
    }
    if (state !== "NODE_ERROR") return "";
    return `${prefix}: Error ${harmless(JSON.stringify(message))} on ${node_names.length} nodes: ${names}\n`;
  }

  /** What comes after the last answer. */
  end(): string {
    if (this.#options.form !== "table" || this.#rows.length === 0) return "";
    return table(["TIMESTAMP", ...(this.#options.node ? ["NODE"] : []), ...TITLES], this.#rows, true);
  }

  #time(time: Time): string {
    return timeText(time, this.#options.timeFormat);
  }

  /** Title and value of each column, for tables and dict. */
  #rowsOf(answer: GetFlowsResponse): [title: string, value: string][] | undefined {
    const { flow, lost_events } = answer, { node } = this.#options;
    if (flow === undefined && lost_events === undefined) return undefined;
    const values: string[] = flow === undefined
      ? [harmless(`${lost_events!.source}`), "-", "EVENTS LOST", "-", this.#lostSummary(answer, "- ")]
      : valuesOf(flowWords(flow, this.#options));
    const name = flow === undefined ? answer.node_name || "-" : flow.node_name;
    return [
      ["TIMESTAMP", this.#time(flow === undefined ? answer.time : flow.time)],
      ...(node ? [["NODE", harmless(name)] as [string, string]] : []),
      ...values.map((value, n): [string, string] => [TITLES[n], value]),
    ];
  }

  #line({ flow, node_name }: GetFlowsResponse): string {
    const words = flowWords(flow!, this.#options);
    const ends = [
      `${words.source} ${words.sourceIdentity}`,
      `${words.destination} ${words.destinationIdentity}`,
    ];
    if (words.arrow === "<-") ends.reverse();
    const node = this.#options.node ? ` [${harmless(flow!.node_name || node_name)}]` : "";
    const summary = words.summary === "" && this.#options.why ? "" : ` (${words.summary})`;
    return `${this.#time(flow!.time)}${node}: ${
      ends.join(` ${words.arrow} `)
    } ${words.type} ${words.verdict}${summary}\n`;
  }

  #lostLine(answer: GetFlowsResponse): string {
    return `${this.#time(answer.time)} EVENTS LOST: ${harmless(`${answer.lost_events!.source}`)} ${
      this.#lostSummary(answer, "")
    }\n`;
  }

  #lostSummary({ lost_events }: GetFlowsResponse, dash: string): string {
    const { num_events_lost, cpu, first, last, holder } = lost_events!;
    const whose = holder === "" ? "" : ` of ${harmless(holder)}`;
    const when = first && last ? ` (first: ${this.#time(first)}, last: ${this.#time(last)})` : "";
    return `CPU(${cpu?.value ?? 0}) ${dash}${num_events_lost}${whose}${when}`;
  }
}

function valuesOf({ source, destination, type, verdict, summary }: FlowWords): string[] {
  return [source, destination, type, verdict, summary];
}
