"""A computation recorded once as a list of tensor operations, and run again and again on other inputs.

`vmap` and autograd find out with every call anew what is to be done, which takes longer than doing it where layers are
small. What they had done the first time is all that has to be done the next time.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from ipgl.core.private_apis import watch_operations

_aten = torch.ops.aten
_SAME = (_aten.alias.default, _aten.detach.default)  # the tensor itself, once autograd is out of the way
_CONSTANT = (_aten.lift_fresh.default,)


class Recording:
    """The operations of `function`, which must be pure, on inputs of the shapes and types of those that it is given."""

    def __init__(self, function: Callable[..., Any], *inputs: Any) -> None:
        """Record it.

        Args:
            function: Takes and returns tensors in tuples, lists and dicts. It may use autograd, autocast and `vmap`; it
                may not read values on the host or know a tensor from elsewhere.
            inputs: To record it with.

        Raises:
            ValueError: The function used a tensor that is no input.
        """
        tensors, self._inputs = pytree.tree_flatten(inputs)
        self._graph = fx.Graph()
        self._kept: list[Any] = []  # while they live, no other tensor has the same identity
        self._nodes: dict[int, fx.Node] = {}
        for number, tensor in enumerate(tensors):
            self._keep(tensor, self._graph.placeholder(f"input{number}"))
        with watch_operations(self._record):
            returned = function(*inputs)
        results, self._results = pytree.tree_flatten(returned)
        self._graph.output([self._node(result) for result in results])
        self._graph.eliminate_dead_code()
        self._run = fx.GraphModule(nn.Module(), self._graph).forward
        self._kept, self._nodes = [], {}

    def __call__(self, *inputs: Any) -> Any:
        """What the function would return, without gradients; outside of autocast, whose casts were recorded."""
        tensors, structure = pytree.tree_flatten(inputs)
        assert structure == self._inputs
        with torch.no_grad():
            return pytree.tree_unflatten(self._run(*tensors), self._results)

    def _record(self, operation: Any, args: Any, kwargs: Any, result: Any) -> None:
        if operation in _SAME:
            self._keep(result, self._node(args[0]))
            return
        if operation in _CONSTANT:
            raise ValueError("a recorded function may not make tensors of numbers on the host; pass them in")
        given = pytree.tree_map(self._node, (args, kwargs))
        node = self._graph.call_function(operation, *given)
        if isinstance(result, Tensor):
            self._keep(result, node)
            return
        for number, part in enumerate(result if isinstance(result, tuple | list) else ()):
            if isinstance(part, Tensor):
                self._keep(part, self._graph.call_function(operator.getitem, (node, number)))

    def _keep(self, tensor: Tensor, node: fx.Node) -> None:
        self._kept.append(tensor)
        self._nodes[id(tensor)] = node

    def _node(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self._nodes:
            raise ValueError(
                f"a recorded function may use its inputs alone, but got another tensor, {tuple(value.shape)}"
            )
        return self._nodes[id(value)]
