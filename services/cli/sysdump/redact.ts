/** Takes secrets out of what a sysdump holds. Pure, but for reading environments. @module */

/** Stands where a secret was: a plain word in YAML, JSON and URLs, so that what is around it is read as before. */
export const REDACTED = "REDACTED";

const PATTERNS: readonly [pattern: RegExp, replacement: string][] = [
  // A key in PEM, also where it is a string of JSON or YAML.
  [
    /-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----[\s\S]*?(-----END \1-----|$)/g,
    `-----BEGIN $1-----${REDACTED}-----END $1-----`,
  ],
  // scheme://user:password@host
  [/\b([a-z][a-z0-9+.-]*:\/\/[^\s/:@"'`]*):[^\s/@"'`]+@/gi, `$1:${REDACTED}@`],
  [/\bweir-join\.[A-Za-z0-9_-]+=*/g, `weir-join.${REDACTED}`],
  // A JSON Web Token, as service accounts have them.
  [/\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*/g, REDACTED],
  [/\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}/gi, `$1 ${REDACTED}`],
  // password: x, "api_key": "x", --token x, WEIR_TOKEN=x; also where the quotes are escaped.
  [
    /([a-z0-9_.-]*(?:passwo?rd|passwd|passphrase|secret|token|api[-_]?key|private[-_]?key|access[-_]?key|authorization)(?:\\?["'])?\s*[:=]\s*(?:\\?["'])?)(?!\\?["']|REDACTED)([^\s"'\\,;}&]+)/gi,
    `$1${REDACTED}`,
  ],
  [/(--[a-z0-9-]*(?:password|secret|token|api-key)[ =])(?!REDACTED)(\S+)/gi, `$1${REDACTED}`],
];

/** Fields of JSON whose texts are secrets. */
const SECRET_FIELD =
  /(passwo?rd|passwd|passphrase|secret|token|api[-_]?key|private[-_]?key|access[-_]?key|authorization)$/i;

/** Variables whose values are secrets; those with a URL have its password taken out by its form. */
const SECRET_VARIABLE = /PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|_KEY$|^KEY$/i;
/** Shorter values would be found everywhere. */
const VALUE_LENGTH_MIN = 6;

/** Takes secrets out of a text: what looks like one, and these very values. */
export class Redactor {
  readonly #values: readonly string[];

  constructor(values: readonly string[] = []) {
    this.#values = [...new Set(values)].filter((value) => value.length >= VALUE_LENGTH_MIN)
      .sort((a, b) => b.length - a.length);
  }

  /** The text without them. */
  redact(text: string): string {
    let out = text;
    for (const value of this.#values) {
      out = out.replaceAll(value, REDACTED);
      // As it stands in a URL, and in JSON.
      for (const form of [encodeURIComponent(value), JSON.stringify(value).slice(1, -1)]) {
        if (form !== value) out = out.replaceAll(form, REDACTED);
      }
    }
    for (const [pattern, replacement] of PATTERNS) out = out.replace(pattern, replacement);
    return out;
  }

  /** JSON without them: its texts are looked at one by one, so that it stays JSON. */
  redactJson(text: string): string {
    const without = (key: string, value: unknown) =>
      typeof value !== "string"
        ? value
        : SECRET_FIELD.test(key) && value !== ""
        ? REDACTED
        : this.redact(value);
    return JSON.stringify(JSON.parse(text), without);
  }
}

/** Whether the value of a variable with this name is a secret. */
export function isSecretVariable(name: string): boolean {
  return SECRET_VARIABLE.test(name);
}

/** Values of variables that are secrets by their names, and passwords of URLs. */
export function secretsOf(environment: Readonly<Record<string, string>>): string[] {
  return Object.entries(environment).flatMap(([name, value]) => {
    const password = /^[a-z][a-z0-9+.-]*:\/\/[^\s/:@]*:([^\s@]+)@/i.exec(value)?.[1];
    return [
      ...(SECRET_VARIABLE.test(name) ? [value] : []),
      ...(password === undefined ? [] : [password, decoded(password)]),
    ];
  });
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The environment of a process; empty where it is gone or may not be read. */
export async function environmentOf(pid: number): Promise<Record<string, string>> {
  try {
    const text = await Deno.readTextFile(`/proc/${pid}/environ`);
    return Object.fromEntries(
      text.split("\0").filter((line) => line.includes("=")).map((line) => {
        const equals = line.indexOf("=");
        return [line.slice(0, equals), line.slice(equals + 1)];
      }),
    );
  } catch {
    return {};
  }
}
