/**
 * Writes what installs Weir on Kubernetes from one source, services/cli/install: the plain manifest, and the Helm chart, whose
 * templates are the same objects with Helm's expressions in the places of values.
 *
 * @module
 */
import { stringify } from "yaml";
import { WEIR_VERSION } from "../../services/common/version.ts";
import { manifest } from "../../services/cli/install/manifest.ts";
import { weirObjects } from "../../services/cli/install/objects.ts";
import {
  CONDITION_END,
  type Json,
  valuePaths,
  VALUES,
  type ValueSpec,
} from "../../services/cli/install/values.ts";

/** Of the plain manifest, of the chart, of its templates. */
export const manifestDirectory = new URL("../../deploy/kubernetes/", import.meta.url);
export const chartDirectory = new URL("../../deploy/helm/weir/", import.meta.url);
export const templatesDirectory = new URL("templates/", chartDirectory);

const GENERATED = "# Written by `deno task generate` from services/cli/install: change it there.\n";
const FORM = {
  lineWidth: 0,
  defaultStringType: "QUOTE_DOUBLE",
  defaultKeyType: "PLAIN",
  // Values that stand twice are written twice: people read this, and some tools read no anchors.
  aliasDuplicateObjects: false,
} as const;

/** The plain manifest. */
export function generateManifest(): Map<string, string> {
  const head = `${GENERATED}#
# Weir on Kubernetes, with default values: kubectl apply -f weir.yaml. The images are what scripts/images builds, on every node
# (deploy/images). Without kube-proxy say where the API server is, in WEIR_KUBERNETES_API_SERVER: its service address answers
# when Weir runs, and not before. weir install finds that out by itself.
`;
  return new Map([[
    "weir.yaml",
    head + manifest().map((object) => `---\n${stringify(object, FORM)}`).join(""),
  ]]);
}

/** What describes the chart and its values. */
export function generateChart(): Map<string, string> {
  const chart = {
    apiVersion: "v2",
    name: "weir",
    description: "Networking, security and observability of workloads from their identity",
    type: "application",
    version: WEIR_VERSION,
    appVersion: WEIR_VERSION,
    kubeVersion: ">=1.30.0-0",
  };
  const schema = {
    $schema: "http://json-schema.org/draft-07/schema#",
    ...schemaOf({ says: "Values", group: VALUES }),
  };
  return new Map([
    ["Chart.yaml", GENERATED + stringify(chart, FORM)],
    ["values.yaml", GENERATED + valuesText(VALUES, "")],
    ["values.schema.json", JSON.stringify(schema, null, 2) + "\n"],
  ]);
}

/** The chart's templates, one object each. */
export function generateTemplates(): Map<string, string> {
  const objects = weirObjects(placeholders(), {
    namespace: "{{ .Release.Namespace }}",
    configText: "@@RAW toYaml .Values.config | quote@@",
    configDigest: "@@RAW toJson .Values.config | sha256sum | quote@@",
  });
  return new Map(objects.map((object) => {
    const name = `${object.kind.toLowerCase()}-${object.metadata.name}.yaml`;
    return [name, GENERATED + withExpressions(stringify(object, FORM))];
  }));
}

/** Texts are Helm's expressions already, other values are marked. */
function placeholders(): Record<string, Json> {
  return Object.fromEntries(
    valuePaths().map(([path, spec]) => {
      const expression = `.Values.${path}`;
      if (typeof spec.default === "boolean") return [path, `@@IF ${expression}@@`];
      if (typeof spec.default === "string") return [path, `{{ ${expression} }}`];
      return [path, typeof spec.default === "object" ? `@@YAML ${expression}@@` : `@@RAW ${expression}@@`];
    }),
  );
}

function withExpressions(text: string): string {
  return text
    .replace(/^( *)(.*: )"@@YAML (.*?)@@"$/gm, (_, indent: string, key: string, expression: string) => {
      // Below a list's dash the key itself is two further in.
      const depth = indent.length + (/^(- )+/.exec(key)?.[0].length ?? 0);
      return `${indent}${key}{{- toYaml ${expression} | nindent ${depth + 2} }}`;
    })
    .replace(/^( *)- "@@IF (.*?)@@"$/gm, "$1{{- if $2 }}")
    .replace(new RegExp(`^( *)- "${CONDITION_END}"$`, "gm"), "$1{{- end }}")
    .replace(/"@@RAW (.*?)@@"/g, "{{ $1 }}");
}

function valuesText(specs: Readonly<Record<string, ValueSpec>>, indent: string): string {
  return Object.entries(specs).map(([name, spec]) => {
    const says = `${indent}# ${spec.says}.\n`;
    if ("group" in spec) return `${says}${indent}${name}:\n${valuesText(spec.group, `${indent}  `)}`;
    const text = stringify({ [name]: spec.default }, FORM).trimEnd().split("\n");
    return says + text.map((line) => `${indent}${line}\n`).join("");
  }).join("");
}

function schemaOf(spec: ValueSpec): Record<string, unknown> {
  if ("group" in spec) {
    return {
      description: spec.says,
      type: "object",
      additionalProperties: false,
      properties: Object.fromEntries(Object.entries(spec.group).map(([name, one]) => [name, schemaOf(one)])),
    };
  }
  const { says: description, default: value, enum: choices } = spec;
  return {
    description,
    type: spec.type ?? (Array.isArray(value) ? "array" : typeof value),
    ...(choices === undefined ? {} : { enum: choices }),
    default: value,
  };
}
