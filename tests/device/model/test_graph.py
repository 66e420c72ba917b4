"""What a graph is made of."""

import numpy as np

from cellseg_device.model.graph import Operator, operators


class Graph:
    def get_tensor_details(self):
        return [{"index": i, "dtype": t} for i, t in enumerate((np.int8, np.int32, np.float32))]

    def _get_ops_details(self):
        return [
            {"op_name": "CONV_2D", "inputs": np.array([0, 1, -1]), "outputs": np.array([0])},
            {"op_name": "DEQUANTIZE", "inputs": np.array([0]), "outputs": np.array([2])},
            {"op_name": "DELEGATE", "inputs": np.array([0]), "outputs": np.array([2])},
        ]


def test_operators_in_their_order_with_the_types_they_touch():
    assert operators(Graph()) == (Operator("CONV_2D", ("int32", "int8")), Operator("DEQUANTIZE", ("float32", "int8")))


def test_the_bundled_graph_has_no_float_operator(model):
    found = operators(model.interpreter)
    assert "CONV_2D" in {operator.name for operator in found}
    assert {dtype for operator in found for dtype in operator.dtypes} <= {"int8", "int32"}
