import type { DescMethod } from "@bufbuild/protobuf";

/** As the method table, refusals and the log name it. */
export const methodName = ({ parent, name }: DescMethod): string => `${parent.typeName}/${name}`;
