/** Messages as descriptors in protobuf's own form, for libraries that bring none: google.protobuf.FileDescriptorSet in JSON. @module */
import protobuf from "protobufjs/light";
import { lookUp } from "./root.ts";

type Json = Record<string, unknown>;

/** Descriptors of these packages, in the order in which they are given: what one refers to comes before it. */
export function fileDescriptors(packages: readonly string[]): { file: Json[] } {
  return {
    file: packages.map((name, index) => {
      const space = lookUp(name);
      if (!(space instanceof protobuf.Namespace)) throw new RangeError(`there is no package ${name}`);
      return {
        name: `${name}.proto`,
        package: name,
        syntax: "proto3",
        dependency: packages.slice(0, index).map((one) => `${one}.proto`),
        ...membersOf(space, "messageType"),
      };
    }),
  };
}

function membersOf(space: protobuf.NamespaceBase, messages: "messageType" | "nestedType"): Json {
  const nested = space.nestedArray;
  return {
    [messages]: nested.filter((one) => one instanceof protobuf.Type).map(messageOf),
    enumType: nested.filter((one) => one instanceof protobuf.Enum).map(({ name, values }) => ({
      name,
      value: Object.entries(values).map(([name, number]) => ({ name, number })),
    })),
  };
}

function messageOf(type: protobuf.Type): Json {
  const oneofs = type.oneofsArray.filter(({ isProto3Optional }) => !isProto3Optional);
  return {
    name: type.name,
    field: type.fieldsArray.map((field) => {
      field.resolve();
      if (field.map) throw new RangeError(`${field.fullName} is a map: maps are not described`);
      const { resolvedType } = field;
      const oneofIndex = oneofs.findIndex((one) => one === field.partOf);
      return {
        name: field.name,
        number: field.id,
        label: field.repeated ? "LABEL_REPEATED" : "LABEL_OPTIONAL",
        ...(resolvedType === null ? { type: `TYPE_${field.type.toUpperCase()}` } : {
          type: resolvedType instanceof protobuf.Enum ? "TYPE_ENUM" : "TYPE_MESSAGE",
          typeName: resolvedType.fullName,
        }),
        ...(oneofIndex < 0 ? {} : { oneofIndex }),
      };
    }),
    oneofDecl: oneofs.map(({ name }) => ({ name })),
    ...membersOf(type, "nestedType"),
  };
}
