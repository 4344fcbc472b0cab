"""Reading the source of a function: whether what it computes follows from its arguments alone, by operations of PyTorch.

What is not known to be harmless is not accepted: calls, attributes and statements have to be among those named here.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import math
import os
from enum import Enum
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from epochal.training.traced.recording import NotTraceableError

# Folders of code that is known.
TORCH, OURS = f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parents[2]}{os.sep}"

# Functions of `torch` and `torch.nn.functional`, and methods of tensors, that give tensors by values of tensors and nothing else, and
# whose shapes follow from shapes.
_NAMES = """
    abs acos adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d add addbmm addcdiv addcmul
    addmm addmv all alpha_dropout amax amin any arange argmax argmin argsort asin atan atan2 avg_pool1d avg_pool2d avg_pool3d baddbmm
    batch_norm bilinear binary_cross_entropy binary_cross_entropy_with_logits bmm broadcast_to cat cdist ceil celu channel_shuffle chunk
    clamp clamp_max clamp_min clone concat concatenate contiguous conv1d conv2d conv3d conv_transpose1d conv_transpose2d cos cosh
    cosine_similarity cross_entropy cummax cumprod cumsum detach diagonal diff div dot double dropout dropout1d dropout2d dropout3d einsum
    elu embedding empty_like eq erf exp expand expand_as expm1 feature_alpha_dropout flatten flip float floor fmod frac full full_like
    gather ge gelu glu group_norm gt half hardsigmoid hardswish hardtanh hinge_embedding_loss huber_loss hypot index_select instance_norm
    interpolate kl_div l1_loss layer_norm le leaky_relu lerp linear linspace local_response_norm log log10 log1p log2 log_softmax
    logaddexp logical_and logical_not logical_or logical_xor logit logsigmoid logsumexp long lp_pool1d lp_pool2d lt margin_ranking_loss
    masked_fill matmul max max_pool1d max_pool2d max_pool3d maximum mean meshgrid min minimum mish mm movedim mse_loss mul multiply mv
    nan_to_num narrow ne neg new_full new_ones new_zeros nll_loss norm normalize numel one_hot ones ones_like outer pad permute
    pixel_shuffle pixel_unshuffle poisson_nll_loss pow prelu prod rand rand_like randn randn_like reciprocal relu relu6 remainder reshape
    reshape_as rms_norm roll rot90 round rrelu rsqrt rsub scaled_dot_product_attention scatter scatter_add select selu sigmoid sign silu
    sin sinh smooth_l1_loss soft_margin_loss softmax softmin softplus softsign split sqrt square squeeze stack std sub subtract sum
    swapaxes swapdims t take_along_dim tan tanh tanhshrink tensordot threshold tile to topk transpose triangular_solve tril
    triplet_margin_loss triu true_divide type_as unbind unflatten unfold unsqueeze upsample var view view_as where zeros zeros_like
"""
_TENSOR_FUNCTIONS = frozenset(_NAMES.split())
# Methods and properties of tensors, and functions, that give sizes, types and modes: the same for each batch of one shape.
_STATIC_METHODS = {"size", "dim", "numel", "nelement", "ndimension", "stride", "is_floating_point", "is_complex", "element_size"}
_STATIC_PROPERTIES = {"shape", "ndim", "dtype", "device", "is_cuda", "layout", "itemsize", "nbytes"}
_VIEWS = {"T", "mT"}
# Without `str`: the text of a tensor is its values, and reading it is no operation.
_STATIC_BUILTINS = (int, float, bool, tuple, min, max, abs, round, range, len)
_MISSING = object()
_MODULES = (torch, nn.functional, nn, math)
PLAIN = (bool, int, float, complex, str, type(None), torch.dtype, torch.device, torch.Size, torch.memory_format)


class Outside(NamedTuple):
    """Something that a forward pass depends on besides its modules: the `value` of a `name` in a namespace, a class, or a function."""

    holder: Any
    name: str
    value: Any

    def is_same(self) -> bool:
        """Return whether it still has this value."""
        if isinstance(self.holder, dict):
            return self.holder.get(self.name, getattr(builtins, self.name, None)) is self.value
        return getattr(self.holder, self.name, None) is self.value


class _Kind(Enum):
    """What is known of the value of an expression."""

    STATIC = "the same for each batch"  # numbers, sizes, types
    TENSOR = "a tensor, or several"
    NETWORK = "a module, or several"


def is_in(function: FunctionType, *folders: str) -> bool:
    """Return whether a function is defined below one of the folders."""
    return function.__code__.co_filename.startswith(folders)


def is_plain(value: object) -> bool:
    """Return whether a value is a constant, of a type that is known: subclasses of numbers may compute anything."""
    return type(value) in PLAIN or (type(value) is tuple and all(map(is_plain, value)))


class Reader:
    """Reads one function, which is a method of `module` if there is one, and what it calls."""

    def __init__(self, function: FunctionType, module: nn.Module | None = None, callers: tuple[FunctionType, ...] = ()) -> None:
        self.function = function
        self.module = module
        self.callers = (*callers, function)
        self.locals: dict[str, _Kind] = {}
        self.outside = [Outside(function, "__code__", function.__code__)]

    def check(self, kinds: list[_Kind] | None = None) -> list[Outside]:
        """Raise `NotTraceableError` at the first thing that is not known to be harmless; return what else this depends on."""
        definition = self._definition()
        arguments = definition.args
        names = [one.arg for one in [*arguments.posonlyargs, *arguments.args]]
        if self.module is not None:
            self.self = names.pop(0) if names else ""
        else:
            self.self = ""
        if arguments.vararg or arguments.kwarg or arguments.kwonlyargs or (kinds is not None and len(kinds) > len(names)):
            raise self._no(definition, "takes arguments that are not listed")
        if not is_plain(self.function.__defaults__ or ()):
            raise self._no(definition, "has a default that may change")
        self.outside.append(Outside(self.function, "__defaults__", self.function.__defaults__))
        needed = len(names) - len(self.function.__defaults__ or ())
        for place, name in enumerate(names):
            self.locals[name] = kinds[place] if place < len(kinds or ()) and kinds else _Kind.TENSOR if place < needed else _Kind.STATIC
        self._statements(definition.body)
        return self.outside

    def _definition(self) -> ast.FunctionDef:
        code = self.function.__code__
        if self.function.__closure__:
            raise NotTraceableError(f"{self.function.__qualname__} uses variables of a function around it")
        try:
            definitions, compiled = _parsed("".join(inspect.findsource(code)[0]))
        except (OSError, TypeError, SyntaxError, ValueError) as error:
            raise NotTraceableError(f"the source of {self.function.__qualname__} is not known") from error
        # A file may have changed since it was imported: what runs is the code.
        if code not in compiled:
            raise NotTraceableError(f"the source of {self.function.__qualname__} is not what runs")
        for definition in definitions:
            if (definition.name, definition.lineno) == (code.co_name, code.co_firstlineno):
                return definition
        raise NotTraceableError(f"{self.function.__qualname__} is not defined by a plain def")

    def _no(self, node: ast.AST, what: str) -> NotTraceableError:
        code = self.function.__code__
        line = getattr(node, "lineno", code.co_firstlineno)
        return NotTraceableError(f"{self.function.__qualname__} {what} ({Path(code.co_filename).name}, line {line})")

    def _statements(self, body: list[ast.stmt]) -> None:
        for statement in body:
            match statement:
                case ast.Expr(ast.Constant()) | ast.Pass() | ast.Break() | ast.Continue():
                    pass
                case ast.Expr(ast.Call(ast.Attribute(ast.Name(name), "append"), [value], [])) if self.locals.get(name) is _Kind.TENSOR:
                    self._kind(value)
                case ast.Return(None):
                    pass
                case ast.Return(value) if value is not None:
                    self._kind(value)
                case ast.Assign([target], value):
                    self._assign(target, self._kind(value))
                case ast.AnnAssign(target, _, value) if value is not None:
                    self._assign(target, self._kind(value))
                case ast.AugAssign(ast.Name(name) as target, _, value):
                    # In place: of a tensor of the module this changes the module.
                    self._assign(target, self._both(self._kind(target), self._kind(value)))
                case ast.If(test, then, otherwise) if (known := self._known(test)) is not None:
                    self._statements(then if known else otherwise)
                case ast.If(test, then, otherwise):
                    self._static(test, "branches on values")
                    at_first = dict(self.locals)
                    self._statements(then)
                    after, self.locals = self.locals, at_first
                    self._statements(otherwise)
                    self.locals = {name: self._join(name, after) for name in {*self.locals, *after}}
                case ast.For(target, values, then, []):
                    before: dict[str, _Kind] | None = None
                    while self.locals != before:
                        # The kinds at the end of one round are those at the beginning of the next.
                        before = dict(self.locals)
                        self._assign_each(target, values)
                        self._statements(then)
                        self.locals = {name: self._join(name, before) for name in {*self.locals, *before}}
                case ast.Assert(test, _):
                    self._static(test, "branches on values")
                case ast.Raise():
                    pass
                case _:
                    raise self._no(statement, f"has a statement that may do more than compute: {ast.unparse(statement).splitlines()[0]}")

    def _join(self, name: str, other: dict[str, _Kind]) -> _Kind:
        kinds = {kinds[name] for kinds in (self.locals, other) if name in kinds}
        if len(kinds) == 1:
            return kinds.pop()
        if _Kind.NETWORK in kinds:
            raise NotTraceableError(f"{self.function.__qualname__} uses {name} for a module and for something else")
        return _Kind.TENSOR

    def _assign(self, target: ast.expr, kind: _Kind) -> None:
        match target:
            case ast.Name(name) if name != self.self:
                self.locals[name] = kind
            case ast.Tuple(parts) | ast.List(parts):
                for part in parts:
                    self._assign(part, kind)
            case _:
                raise self._no(target, f"changes {ast.unparse(target)}")

    def _assign_each(self, target: ast.expr, values: ast.expr) -> None:
        """Assign what a loop goes over."""
        kind = self._kind(values)
        match target, values:
            case ast.Tuple([number, value]), ast.Call(ast.Name("enumerate")) if self._outside("enumerate") is enumerate:
                self._assign(number, _Kind.STATIC)
                self._assign(value, kind)
            case _:
                self._assign(target, kind)

    def _known(self, test: ast.expr) -> bool | None:
        """Return whether an attribute of the module is None, or is not, if that is what is asked."""
        match test:
            case ast.Compare(ast.Attribute(ast.Name(name), attribute) as node, [ast.Is() | ast.IsNot() as operator], [ast.Constant(None)]):
                if name == self.self and self.module is not None:
                    return (self._own(node, attribute) is None) == isinstance(operator, ast.Is)
        return None

    def _static(self, expression: ast.expr, otherwise: str) -> None:
        if self._kind(expression) is not _Kind.STATIC:
            raise self._no(expression, f"{otherwise}: {ast.unparse(expression)}")

    @staticmethod
    def _both(*kinds: _Kind) -> _Kind:
        return _Kind.STATIC if all(kind is _Kind.STATIC for kind in kinds) else _Kind.TENSOR

    def _kind(self, expression: ast.expr) -> _Kind:
        match expression:
            case ast.Constant():
                return _Kind.STATIC
            case ast.Name(name):
                return self._name(expression, name)
            case ast.Attribute():
                return self._attribute(expression)
            case ast.Call():
                return self._call(expression)
            case ast.BinOp(_, ast.Mod(), right) if not isinstance(right, ast.Constant | ast.Attribute):
                # So does formatting.
                raise self._no(expression, f"may make a text of values: {ast.unparse(expression)}")
            case ast.BinOp(left, _, right):
                return self._both(self._kind(left), self._kind(right))
            case ast.UnaryOp(operator, operand):
                kind = self._kind(operand)
                if isinstance(operator, ast.Not) and kind is not _Kind.STATIC:
                    raise self._no(expression, f"branches on values: {ast.unparse(expression)}")
                return kind
            case ast.Compare(left, operators, others):
                if any(isinstance(one, ast.Is | ast.IsNot) for one in operators):
                    # A thing is None, or not, for each batch alike.
                    for one in (left, *others):
                        self._kind(one)
                    return _Kind.STATIC
                kinds = [self._kind(one) for one in (left, *others)]
                if len(others) > 1 or any(isinstance(one, ast.In | ast.NotIn) for one in operators):
                    self._static(left, "branches on values")
                return self._both(*kinds)
            case ast.BoolOp(_, values):
                for one in values:
                    self._static(one, "branches on values")
                return _Kind.STATIC
            case ast.IfExp(test, then, otherwise):
                self._static(test, "branches on values")
                return self._both(self._kind(then), self._kind(otherwise))
            case ast.Tuple(parts) | ast.List(parts):
                return self._both(*(self._kind(part.value if isinstance(part, ast.Starred) else part) for part in parts))
            case ast.Subscript(value, ast.Slice()) if self._kind(value) is _Kind.NETWORK and not self._is_torchs(value):
                raise self._no(expression, f"makes a container of its own kind: {ast.unparse(expression)}")
            case ast.Subscript(value, index):
                for part in index.elts if isinstance(index, ast.Tuple) else [index]:
                    self._index(part)
                return self._kind(value)
            case ast.ListComp(element, [ast.comprehension(target, values, [], 0)]) | ast.GeneratorExp(
                element, [ast.comprehension(target, values, [], 0)]
            ):
                before = dict(self.locals)
                self._assign_each(target, values)
                kind = self._kind(element)
                self.locals = before
                return kind if kind is not _Kind.NETWORK else _Kind.TENSOR
            case _:
                raise self._no(expression, f"has an expression that may do more than compute: {ast.unparse(expression)}")

    def _index(self, index: ast.expr) -> None:
        parts = [index.lower, index.upper, index.step] if isinstance(index, ast.Slice) else [index]
        for part in parts:
            if part is not None:
                # The number of elements that a mask picks is known by its values only.
                self._static(part, "picks elements by values")

    def _name(self, node: ast.expr, name: str) -> _Kind:
        if name in self.locals:
            return self.locals[name]
        if name != self.self and is_plain(self._outside(name)):
            return _Kind.STATIC
        raise self._no(node, f"uses {name}")

    def _outside(self, name: str) -> Any:
        """Return the value of a name that is not local, and remember that it should stay."""
        space = self.function.__globals__
        if name not in space and not hasattr(builtins, name):
            raise NotTraceableError(f"{self.function.__qualname__} uses {name}, which is not there")
        value = space.get(name, getattr(builtins, name, None))
        self.outside.append(Outside(space, name, value))
        return value

    def _attribute(self, node: ast.Attribute) -> _Kind:
        if isinstance(node.value, ast.Name) and node.value.id not in self.locals:
            if node.value.id == self.self and self.module is not None:
                return self._kind_of_own(node)
            holder = self._outside(node.value.id)
            value = getattr(holder, node.attr, None) if isinstance(holder, ModuleType) and holder in _MODULES else None
            if value is not None and is_plain(value):
                self.outside.append(Outside(holder, node.attr, value))
                return _Kind.STATIC
            raise self._no(node, f"uses {ast.unparse(node)}")
        kind = self._kind(node.value)
        if node.attr in _STATIC_PROPERTIES and kind is not _Kind.NETWORK:
            return _Kind.STATIC
        if node.attr in _VIEWS and kind is _Kind.TENSOR:
            return _Kind.TENSOR
        if kind is _Kind.NETWORK and node.attr in ("weight", "bias") and self._is_torchs(node.value):
            return _Kind.TENSOR
        raise self._no(node, f"uses {ast.unparse(node)}")

    def _kind_of_own(self, node: ast.Attribute) -> _Kind:
        value = self._own(node, node.attr)
        assert self.module is not None
        if isinstance(value, nn.Module) and value is self.module._modules.get(node.attr):
            return _Kind.NETWORK
        if isinstance(value, Tensor) and (node.attr in self.module._parameters or node.attr in self.module._buffers):
            return _Kind.TENSOR
        if is_plain(value):
            return _Kind.STATIC
        raise self._no(node, f"uses {self.self}.{node.attr}, which may change")

    def _is_torchs(self, node: ast.expr) -> bool:
        """Return whether an expression is a layer of this module, and of a class of PyTorch's."""
        match node:
            case ast.Attribute(ast.Name(name), attribute) if name == self.self and self.module is not None:
                return type(self.module._modules.get(attribute)).__module__.startswith("torch.nn.modules.")
        return False

    def _own(self, node: ast.expr, name: str) -> Any:
        """Return an attribute of the module, found as Python finds it; an attribute that is computed is not accepted."""
        module = self.module
        assert module is not None
        shared = inspect.getattr_static(type(module), name, _MISSING)
        if hasattr(type(shared), "__set__") or (hasattr(type(shared), "__get__") and not isinstance(shared, FunctionType)):
            raise self._no(node, f"uses {self.self}.{name}, which is computed")
        if name in vars(module):
            return vars(module)[name]
        if shared is not _MISSING:
            self.outside.append(Outside(type(module), name, shared))
            return shared
        for registered in (module._parameters, module._buffers, module._modules):
            if name in registered:
                return registered[name]
        raise self._no(node, f"uses {self.self}.{name}, which is not there")

    def _call(self, node: ast.Call) -> _Kind:
        if any(keyword.arg in (None, "generator", "out") for keyword in node.keywords):
            raise self._no(node, f"calls {ast.unparse(node.func)} with arguments that may do more than compute")
        kinds = [self._kind(one.value if isinstance(one, ast.Starred) else one) for one in node.args]
        kinds_by_name = [self._kind(keyword.value) for keyword in node.keywords]
        everything = [*kinds, *kinds_by_name]
        match node.func:
            case ast.Name(name) if self.locals.get(name) is _Kind.NETWORK:
                return _Kind.TENSOR
            case ast.Name(name) if name not in self.locals:
                return self._function(node, self._outside(name), kinds, everything)
            case ast.Attribute(ast.Name(name), attribute) if name == self.self and self.module is not None:
                own = self._own(node, attribute)
                if isinstance(own, nn.Module) and own is self.module._modules.get(attribute):
                    return _Kind.TENSOR
                if not isinstance(own, FunctionType) or attribute in vars(self.module) or node.keywords:
                    raise self._no(node, f"calls {ast.unparse(node.func)}")
                return self._read(node, own, self.module, kinds)
            case ast.Attribute(holder, attribute) if (module := self._module_of(holder)) is not None:
                value = getattr(module, attribute, None)
                self.outside.append(Outside(module, attribute, value))
                return self._function(node, value, kinds, everything)
            case ast.Attribute(holder, attribute):
                if self._kind(holder) is _Kind.NETWORK:
                    raise self._no(node, f"calls {ast.unparse(node.func)}")
                if attribute in _STATIC_METHODS:
                    return _Kind.STATIC
                if attribute in _TENSOR_FUNCTIONS and self._kind(holder) is _Kind.TENSOR:
                    return _Kind.TENSOR
            case ast.Subscript() if self._kind(node.func) is _Kind.NETWORK:
                return _Kind.TENSOR
        raise self._no(node, f"calls {ast.unparse(node.func)}")

    def _module_of(self, holder: ast.expr) -> ModuleType | None:
        """Return the Python module that an expression such as `torch.nn.functional` is, if it is one of PyTorch's."""
        if isinstance(holder, ast.Attribute) and (outer := self._module_of(holder.value)) is not None:
            found = getattr(outer, holder.attr, None)
            self.outside.append(Outside(outer, holder.attr, found))
        elif isinstance(holder, ast.Name) and holder.id not in self.locals and holder.id != self.self:
            found = self._outside(holder.id)
        else:
            return None
        return found if isinstance(found, ModuleType) and found in _MODULES else None

    def _function(self, node: ast.Call, function: Any, kinds: list[_Kind], everything: list[_Kind]) -> _Kind:
        """Return what a call of a function gives that is not the module's own."""
        name = getattr(function, "__name__", "")
        if function in _STATIC_BUILTINS:
            if function is len or all(kind is _Kind.STATIC for kind in everything):
                return _Kind.STATIC
            raise self._no(node, f"uses values of tensors: {ast.unparse(node)}")
        if function in (zip, enumerate, reversed, list, sum):
            return _Kind.NETWORK if _Kind.NETWORK in kinds else self._both(*kinds)
        if getattr(math, name, None) is function and all(kind is _Kind.STATIC for kind in everything):
            return _Kind.STATIC
        is_theirs = isinstance(function, BuiltinFunctionType) or (isinstance(function, FunctionType) and is_in(function, TORCH))
        if is_theirs and name in _TENSOR_FUNCTIONS and function in (getattr(torch, name, None), getattr(nn.functional, name, None)):
            if name == "where" and len(everything) != 3:
                raise self._no(node, "picks elements by values: where with a single argument")
            return _Kind.TENSOR
        if not is_theirs and isinstance(function, FunctionType) and not node.keywords:
            return self._read(node, function, None, kinds)
        raise self._no(node, f"calls {ast.unparse(node.func)}")

    def _read(self, node: ast.Call, function: FunctionType, module: nn.Module | None, kinds: list[_Kind]) -> _Kind:
        if function in self.callers or _Kind.NETWORK in kinds or any(isinstance(one, ast.Starred) for one in node.args):
            raise self._no(node, f"calls {ast.unparse(node.func)}")
        self.outside.extend(Reader(function, module, self.callers).check(kinds))
        return _Kind.TENSOR


@functools.lru_cache(maxsize=8)
def _parsed(source: str) -> tuple[list[ast.FunctionDef], frozenset[CodeType]]:
    """Return all functions of a file, as they stand there and as they are compiled.

    The whole is compiled, since a function's code depends on what is around it: on classes, and on imports.
    """
    compiled, found = [compile(source, "<source>", "exec", dont_inherit=True)], set[CodeType]()
    while compiled:
        inner = [constant for constant in compiled.pop().co_consts if isinstance(constant, CodeType)]
        compiled += inner
        found.update(inner)
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)], frozenset(found)
