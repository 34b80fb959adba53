/** Structured log: one JSON object per line on stderr. @module */

/** Levels in rising order. */
export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
/** Name of a level. */
export type LogLevel = typeof LOG_LEVELS[number];
/** What a line carries beside its message. An `error` field may be an Error. */
export type LogFields = Record<string, unknown>;

/** Longest value of a field in characters: a log line never carries a whole payload. */
export const LOG_FIELD_CHARS_MAX = 4096;

/** Options of {@link Logger}. */
export interface LoggerOptions {
  /** Name of the service, in every line. */
  name: string;
  /** Lowest level that is written, default "info". */
  level?: LogLevel;
  /** Takes the finished line with its newline, default stderr. */
  write?: (line: string) => void;
  nowMs?: () => number;
  fields?: LogFields;
}

const encoder = new TextEncoder();

/** Writes lines; `with()` gives a logger whose lines carry more fields. */
export class Logger {
  readonly #options: Required<LoggerOptions>;

  constructor(options: LoggerOptions) {
    this.#options = {
      level: "info",
      write: writeStderr,
      nowMs: () => Date.now(),
      fields: {},
      ...options,
    };
  }

  /** A logger that writes nothing below "error" and nowhere: for tests. */
  static silent(): Logger {
    return new Logger({ name: "silent", write: () => {} });
  }

  /** The same logger with more fields on every line. */
  with(fields: LogFields): Logger {
    return new Logger({ ...this.#options, fields: { ...this.#options.fields, ...fields } });
  }

  debug(message: string, fields?: LogFields): void {
    this.#log("debug", message, fields);
  }
  info(message: string, fields?: LogFields): void {
    this.#log("info", message, fields);
  }
  warn(message: string, fields?: LogFields): void {
    this.#log("warn", message, fields);
  }
  error(message: string, fields?: LogFields): void {
    this.#log("error", message, fields);
  }

  #log(level: LogLevel, message: string, fields: LogFields = {}): void {
    if (LOG_LEVELS.indexOf(level) < LOG_LEVELS.indexOf(this.#options.level)) return;
    const line: LogFields = {
      time: new Date(this.#options.nowMs()).toISOString(),
      level,
      service: this.#options.name,
      msg: message,
    };
    for (const [key, value] of Object.entries({ ...this.#options.fields, ...fields })) {
      line[key] = printable(value);
    }
    this.#options.write(JSON.stringify(line) + "\n");
  }
}

/** The level of that name; undefined when there is none. */
export function parseLogLevel(text: string): LogLevel | undefined {
  return LOG_LEVELS.find((level) => level === text.toLowerCase());
}

/** The message of an error with those of its causes, as one line. */
export function errorText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const text = error.message || error.name;
  return error.cause === undefined ? text : `${text}: ${errorText(error.cause)}`;
}

function printable(value: unknown): unknown {
  if (value instanceof Error) return cut(errorText(value));
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "string") return cut(value);
  if (value !== null && typeof value === "object") {
    try {
      const text = JSON.stringify(
        value,
        (_key, inner) => typeof inner === "bigint" ? inner.toString() : inner,
      );
      return text.length > LOG_FIELD_CHARS_MAX ? cut(text) : JSON.parse(text);
    } catch {
      return "[unprintable]";
    }
  }
  return value;
}

function cut(text: string): string {
  return text.length <= LOG_FIELD_CHARS_MAX ? text : text.slice(0, LOG_FIELD_CHARS_MAX) + "…";
}

function writeStderr(line: string): void {
  try {
    Deno.stderr.writeSync(encoder.encode(line));
  } catch {
    // A closed stderr (the supervisor is gone) must not end the service.
  }
}
