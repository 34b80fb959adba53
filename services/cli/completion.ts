/**
 * `weir completion bash|zsh|fish`: the completion of this command, made from its help.
 *
 * @module
 */
import { noWords, parse } from "./args.ts";
import { type CompletionNode, completionTree, type LiveFlag, takesFile } from "./completion_tree.ts";
import { type CommandContext, UsageError } from "./context.ts";
import type { Manual } from "./manual/manual.ts";
import { unknownVerb } from "./suggestion.ts";

const SHELLS: Readonly<Record<string, (nodes: CompletionNode[]) => string>> = { bash, zsh, fish };

/** Runs the command. @param manuals those of all commands */
export async function completionCommand(
  [shell, ...rest]: string[],
  context: CommandContext,
  manuals: Readonly<Record<string, Manual>>,
): Promise<number> {
  if (shell === "names") {
    const { positionals: [kind, ...more] } = parse(rest, {}, "weir help completion");
    if (more.length > 0) throw new UsageError("Say one kind of names", "weir help completion");
    const { printLiveNames } = await import("./live_names.ts");
    return await printLiveNames(kind, context);
  }
  if (!Object.hasOwn(SHELLS, shell ?? "")) {
    throw unknownVerb("completion", shell, [...Object.keys(SHELLS), "names"]);
  }
  noWords(parse(rest, {}, "weir help completion"), "weir help completion");
  context.io.out(completionScript(shell, manuals));
  return 0;
}

/** The script for a shell: "bash", "zsh" or "fish". */
export function completionScript(shell: string, manuals: Readonly<Record<string, Manual>>): string {
  return SHELLS[shell](completionTree(manuals));
}

/** 'text', with its own quotes kept; the same in the three shells, but that fish knows \\ inside. */
function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

const dashed = ({ name, short }: LiveFlag) => [...(short === undefined ? [] : [`-${short}`]), `--${name}`];
const valued = (nodes: CompletionNode[]) =>
  nodes.flatMap(({ path, flags }) =>
    flags.filter(({ value }) => value !== undefined).map((flag) => ({ path, flag }))
  );
/** Switches and flags with values differ from verb to verb: which words are values is known per path. */
const valuePatterns = (nodes: CompletionNode[]) =>
  valued(nodes).flatMap(({ path, flag }) => dashed(flag).map((word) => quote(`${path} ${word}`)));

/** Walks the words before the cursor: what is no flag and no value of one, and is known here, goes into the path. */
function walk(nodes: CompletionNode[], words: string, first: number, cursor: string): string {
  const known = nodes.filter(({ path }) => path !== "").map(({ path }) => quote(path));
  return `  for ((i = ${first}; i < ${cursor}; i++)); do
    case "$at \${${words}[i]}" in
    ${valuePatterns(nodes).join(" | ")}) ((++i)); continue ;;
    esac
    case \${${words}[i]} in
    --) at=--; break ;;
    -*) continue ;;
    esac
    case "\${at:+$at }\${${words}[i]}" in
    ${known.join(" | ")}) at="\${at:+$at }\${${words}[i]}" ;;
    esac
  done`;
}

function bash(nodes: CompletionNode[]): string {
  const values = valued(nodes).map(({ path, flag }) => {
    const patterns = dashed(flag).map((word) => quote(`${path} ${word}`)).join(" | ");
    const answer = flag.choices !== undefined
      ? `words=${quote(flag.choices.join(" "))}`
      : flag.live !== undefined
      ? `live=${flag.live}`
      : takesFile(flag.value)
      ? "files=1"
      : ":";
    return `  ${patterns}) ${answer} ;;`;
  });
  const next = nodes.map(({ path, words, flags, files, live }) =>
    `    ${quote(path)}) words=${quote(Object.keys(words).join(" "))} flags=${
      quote(flags.flatMap(dashed).join(" "))
    }${files ? " files=1" : ""}${live === undefined ? "" : ` live=${live}`} ;;`
  );
  return `# Completion of weir for bash; made by \`weir completion bash\`.
_weir() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]}
  local at='' words='' flags='' files='' live='' i
  COMPREPLY=()
  # "=" is a word of its own here: --output=json is three.
  if [[ $current == = ]]; then current=''; elif [[ $previous == = ]]; then previous=\${COMP_WORDS[COMP_CWORD - 2]}; fi
${walk(nodes, "COMP_WORDS", 1, "COMP_CWORD")}
  case "$at $previous" in
${values.join("\n")}
  *)
    case $at in
${next.join("\n")}
    --) files=1 ;;
    esac
    ;;
  esac
  if [[ $current == -* ]]; then
    words=$flags
  elif [[ -n $live ]]; then
    words+=" $("\${COMP_WORDS[0]}" completion names "$live" 2>/dev/null)"
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  if [[ -n $files && $current != -* ]]; then
    compopt -o filenames 2>/dev/null
    local IFS=$'\\n'
    COMPREPLY+=($(compgen -f -- "$current"))
  fi
}
complete -F _weir weir
`;
}

function zsh(nodes: CompletionNode[]): string {
  const liveAdd = (kind: string) =>
    `compadd -- \${(f)"$(\${words[1]} completion names ${kind} 2>/dev/null)"}`;
  const described = (word: string, says: string) => quote(`${word.replaceAll(":", "\\:")}:${says}`);
  const values = valued(nodes).map(({ path, flag }) => {
    const patterns = dashed(flag).map((word) => quote(`${path} ${word}`)).join(" | ");
    const answer = flag.choices !== undefined
      ? `compadd -- ${flag.choices.join(" ")}`
      : flag.live !== undefined
      ? liveAdd(flag.live)
      : takesFile(flag.value)
      ? "_files"
      : `_message ${quote(flag.value!)}`;
    return `  ${patterns}) ${answer}; return ;;`;
  });
  const next = nodes.map(({ path, words, flags, files, live }) => {
    const flagTexts = flags.flatMap((flag) => dashed(flag).map((word) => described(word, flag.says)));
    const wordTexts = Object.entries(words).map(([word, says]) => described(word, says));
    return `  ${quote(path)})
    flags=(${flagTexts.join(" ")})
    next=(${wordTexts.join(" ")})
    ${files ? "files=1" : ":"}
    ${live === undefined ? ":" : `live=${live}`} ;;`;
  });
  return `#compdef weir
# Completion of weir for zsh; made by \`weir completion zsh\`.
_weir() {
  local at='' files='' live='' i
  local -a flags next
${walk(nodes, "words", 2, "CURRENT")}
  case "$at \${words[CURRENT-1]}" in
${values.join("\n")}
  esac
  case $at in
${next.join("\n")}
  --) files=1 ;;
  esac
  if [[ \${words[CURRENT]} == -* ]]; then
    _describe -o flag flags
  else
    (( \${#next} )) && _describe command next
    [[ -n $live ]] && compadd -- \${(f)"$(\${words[1]} completion names $live 2>/dev/null)"}
    [[ -n $files ]] && _files
  fi
}
if [[ \${funcstack[1]} == _weir ]]; then _weir "$@"; else compdef _weir weir; fi
`;
}

function fish(nodes: CompletionNode[]): string {
  const fishQuote = (text: string) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const at = (path: string) => `-n ${fishQuote(`test (__weir_path) = "${path}"`)}`;
  const known = nodes.filter(({ path }) => path !== "").map(({ path }) => fishQuote(path));
  const liveNames = (kind: string) => fishQuote(`(weir completion names ${kind} 2>/dev/null)`);
  const rules = nodes.flatMap(({ path, words, flags, files, live }) => [
    `complete -c weir ${at(path)} ${files ? "-F" : "-f"}`,
    ...(live === undefined ? [] : [`complete -c weir ${at(path)} -a ${liveNames(live)}`]),
    ...Object.entries(words).map(([word, says]) =>
      `complete -c weir ${at(path)} -a ${fishQuote(word)} -d ${fishQuote(says)}`
    ),
    ...flags.map((flag) => {
      const value = flag.value === undefined
        ? ""
        : flag.choices !== undefined
        ? ` -x -a ${fishQuote(flag.choices.join(" "))}`
        : flag.live !== undefined
        ? ` -x -a ${liveNames(flag.live)}`
        : takesFile(flag.value)
        ? " -r -F"
        : " -x";
      const short = flag.short === undefined ? "" : ` -s ${flag.short}`;
      return `complete -c weir ${at(path)}${short} -l ${flag.name}${value} -d ${fishQuote(flag.says)}`;
    }),
  ]);
  const patterns = valued(nodes).flatMap(({ path, flag }) =>
    dashed(flag).map((word) => fishQuote(`${path} ${word}`))
  );
  return `# Completion of weir for fish; made by \`weir completion fish\`.
function __weir_path
    set -l path ''
    set -l value 0
    for word in (commandline -opc)[2..-1]
        if test $value = 1
            set value 0
            continue
        end
        if contains -- "$path $word" ${patterns.join(" ")}
            set value 1
            continue
        end
        if test "$word" = --
            set path --
            break
        end
        set -l longer (string trim "$path $word")
        if contains -- "$longer" ${known.join(" ")}
            set path "$longer"
        end
    end
    echo "$path"
end
${rules.join("\n")}
`;
}
