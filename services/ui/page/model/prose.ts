/**
 * Sentences of the server, made ready to be read: long names may break where a person would break them. Pure.
 * @module
 */

/** Folders of a path to a manifest are of the machine that has it; what it is called says enough. */
const MANIFEST_PATH = /(^|[\s(])\/?(?:[^\s/():]+\/)+([^\s/():]+\.(?:ya?ml|json))/g;

/** "(/srv/net/policies.yaml:31)" as "(policies.yaml:31)". */
export function withoutFolders(text: string): string {
  return text.replace(MANIFEST_PATH, "$1$2");
}

/** Signs of names after which a line may break; in sentences only those between names. */
const IN_NAMES = /(?<=[^\s][./=,:])(?=[^\s])/, IN_SENTENCES = /(?<=[^\s][,/])(?=[^\s])/;

/** The pieces between which a line may break. Joined they are the text. */
export function breakPieces(text: string, of: "name" | "sentence" = "name"): string[] {
  return text.split(of === "name" ? IN_NAMES : IN_SENTENCES);
}
