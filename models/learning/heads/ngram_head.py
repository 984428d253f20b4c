"""A linear head on the n-grams of a text, for texts in a language or vocabulary that the base does not know.

Rows are sublinear term frequencies times smoothed inverse document frequencies, of length 1. The penalty is that of
the dense heads: mean loss + |W|² / (2 C N).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from models.artifacts.parts import NgramWeights
from models.learning.heads import lbfgs, linear
from models.learning.heads.linear import Floats
from models.learning.heads.ngrams import Ints, Ngrams
from models.learning.tasks.link_functions import LinkFunction

# Of a head's weights in memory and on disk: with more labels it keeps fewer n-grams, the most frequent ones.
_MOST_BYTES = 8 * 2**20
_MOST_NGRAMS = 2**16
# Up to here the rows' products with one another are a smaller matrix than the rows themselves, and a dense one.
_GRAM_ROWS = 2_048
_JITTER = 1e-6  # equal rows make that matrix singular
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class NgramVocabulary:
    """The V known n-grams and their inverse document frequencies."""

    buckets_V: NDArray[np.int32]  # ascending
    idf_V: Floats

    @classmethod
    def learn(cls, ngrams: Ngrams, *, outputs: int) -> NgramVocabulary:
        """Take the most frequent n-grams of the training rows, as many as a head of so many outputs may have."""
        buckets_V, documents_V = np.unique(ngrams.buckets, return_counts=True)
        most = min(_MOST_NGRAMS, _MOST_BYTES // (2 * outputs))
        if len(buckets_V) > most:
            kept = np.sort(np.argsort(-documents_V, kind="stable")[:most])
            buckets_V, documents_V = buckets_V[kept], documents_V[kept]
        idf_V = np.log((1 + len(ngrams)) / (1 + documents_V)) + 1
        return cls(buckets_V, idf_V.astype(np.float32))

    def weigh(self, ngrams: Ngrams) -> sparse.csr_matrix:
        """Return weighted rows of length 1, (N, V); all zeros where no n-gram is known."""
        if not len(self.buckets_V):
            return sparse.csr_matrix((len(ngrams), 0), dtype=np.float32)
        at_T = np.minimum(np.searchsorted(self.buckets_V, ngrams.buckets), len(self.buckets_V) - 1)
        known_T = self.buckets_V[at_T] == ngrams.buckets
        starts = np.concatenate([[0], np.cumsum(known_T)])[ngrams.starts]
        at_T = at_T[known_T]
        values_T = (1.0 + np.log(ngrams.counts[known_T])) * self.idf_V[at_T]
        owners_T = np.repeat(np.arange(len(ngrams)), np.diff(starts))
        lengths_N = np.sqrt(np.bincount(owners_T, weights=np.square(values_T), minlength=len(ngrams)))
        values_T /= lengths_N[owners_T].astype(np.float32)
        return sparse.csr_matrix((values_T, at_T, starts), shape=(len(ngrams), len(self.buckets_V)))


@dataclass(frozen=True, slots=True)
class NgramHead:
    """`logits_NK = factor * vocabulary.weigh(ngrams) @ weight_VK + bias_K`; the weights as they are kept: float16."""

    vocabulary: NgramVocabulary
    weight_VK: NDArray[np.float16]
    bias_K: Floats
    factor: float = 1.0  # of the weights: a temperature would not fit into float16 without loss

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.weight_VK.nbytes + self.vocabulary.buckets_V.nbytes + self.vocabulary.idf_V.nbytes

    def scaled(self, factor: float) -> NgramHead:
        """Return the head whose logits are those of this one, times a factor."""
        return replace(self, bias_K=self.bias_K * np.float32(factor), factor=self.factor * factor)

    def logits(self, ngrams: Ngrams) -> Floats:
        """Return logits, (N, K) float32. Those of a row do not depend on the other rows."""
        logits_NK = np.empty((len(ngrams), len(self.bias_K)), dtype=np.float32)
        for begin in range(0, len(ngrams), _ROWS_AT_ONCE):
            rows = np.arange(begin, min(begin + _ROWS_AT_ONCE, len(ngrams)))
            weighed_NV = self.vocabulary.weigh(ngrams.take(rows))
            # Only the weights that are used are made float32: a column per entry, not one per n-gram.
            entries = np.arange(weighed_NV.nnz)
            own_NT = sparse.csr_matrix((weighed_NV.data, entries, weighed_NV.indptr), shape=(len(rows), len(entries)))
            logits_NK[rows] = own_NT @ self.weight_VK[weighed_NV.indices].astype(np.float32)
        return np.float32(self.factor) * logits_NK + self.bias_K

    def weights(self) -> NgramWeights:
        """Return it as an artifact holds it; the bias is added to that of the head beside it."""
        return NgramWeights(
            torch.from_numpy(self.vocabulary.buckets_V),
            torch.from_numpy(self.vocabulary.idf_V),
            torch.from_numpy(self.weight_VK),
            torch.tensor([self.factor], dtype=torch.float32),
        )


def load(weights: NgramWeights) -> NgramHead:
    """Return a head of copies of these tensors, its bias 0. Raises ValueError if they do not fit together."""
    tensors = (weights.buckets_V, weights.idf_V, weights.weight_VK)
    buckets_V, idf_V, weight_VK = (each.numpy().copy() for each in tensors)  # a view keeps a whole mapped file
    if not len(buckets_V) == len(idf_V) == len(weight_VK) or (np.diff(buckets_V) <= 0).any():
        raise ValueError("the lexical part does not have one weight per term")
    bias_K = np.zeros(weight_VK.shape[1], dtype=np.float32)
    return NgramHead(NgramVocabulary(buckets_V, idf_V), weight_VK, bias_K, float(weights.factor[0]))


class Fits:
    """Training rows prepared once, for fits on any part of them."""

    def __init__(
        self,
        weighed_NV: sparse.csr_matrix,
        targets: Tensor,
        link: LinkFunction,
        *,
        outputs: int,
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._weighed_NV, self._targets, self._link, self._outputs = weighed_NV, targets, link, outputs
        self._check_stop = check_stop
        self._factor_NN: Tensor | None = None
        self._inverse_NN: Tensor | None = None
        if weighed_NV.shape[0] <= _GRAM_ROWS:
            # With G = F Fᵀ the rows of F have the same products as the rows themselves: N columns instead of V.
            self._factor_NN, self._inverse_NN = _factorise(weighed_NV)

    def fit(self, train: Ints, held: Ints, inverse_penalty: float) -> Floats:
        """Fit a head to the training rows; return its logits of the held-out rows, (H, K)."""
        targets = self._targets[torch.from_numpy(train)]
        if self._factor_NN is not None:
            weights_KN1 = self._fit_rows(self._factor_NN[torch.from_numpy(train)], targets, inverse_penalty)
            held_HN = self._factor_NN[torch.from_numpy(held)]
            return (held_HN @ weights_KN1[:, :-1].T + weights_KN1[:, -1]).numpy()
        weight_VK, bias_K = self._fit_sparse(self._weighed_NV[train], targets, inverse_penalty)
        logits_HK: Floats = self._weighed_NV[held] @ weight_VK + bias_K
        return logits_HK

    def fit_all(self, inverse_penalty: float) -> tuple[Floats, Floats]:
        """Fit a head to all rows; return (weight_VK, bias_K)."""
        if self._factor_NN is None:
            return self._fit_sparse(self._weighed_NV, self._targets, inverse_penalty)
        weights_KN1 = self._fit_rows(self._factor_NN, self._targets, inverse_penalty)
        # w = F⁻¹ X v has the solution v = Xᵀ F⁻ᵀ w in the span of the rows.
        weight_NK = weights_KN1[:, :-1].T.double()
        if self._inverse_NN is None:
            mixes_NK = torch.linalg.solve_triangular(self._factor_NN.T.double(), weight_NK, upper=True)
        else:
            mixes_NK = self._inverse_NN @ weight_NK
        return self._weighed_NV.T @ mixes_NK.float().numpy(), weights_KN1[:, -1].numpy()

    def _fit_rows(self, rows_TN: Tensor, targets: Tensor, inverse_penalty: float) -> Tensor:
        return linear.fit(
            rows_TN,
            targets,
            linear.Objective(self._link, self._outputs, inverse_penalty),
            variance_R=rows_TN.square().mean(0),
            check_stop=self._check_stop,
        )

    def _fit_sparse(
        self, weighed_NV: sparse.csr_matrix, targets: Tensor, inverse_penalty: float
    ) -> tuple[Floats, Floats]:
        rows = weighed_NV.shape[0]
        penalty = 1.0 / (inverse_penalty * rows)
        turned_VN = weighed_NV.T.tocsr()
        variance_V = torch.from_numpy(np.asarray(weighed_NV.power(2).mean(0), dtype=np.float32).ravel())
        curvature = self._link.curvature(self._outputs)
        inverse_curvature = 1.0 / torch.cat([curvature * variance_V + penalty, torch.full((1,), curvature)])[:, None]

        def evaluate(weights_V1K: Tensor) -> tuple[float, Tensor]:
            weight_VK = weights_V1K[:-1]
            logits_NK = torch.from_numpy(weighed_NV @ weight_VK.numpy()) + weights_V1K[-1]
            loss, residual_NK = self._link.value_and_residual(logits_NK, targets)
            residual_NK /= rows
            gradient = torch.empty_like(weights_V1K)
            gradient[:-1] = torch.from_numpy(turned_VN @ residual_NK.numpy()) + penalty * weight_VK
            gradient[-1] = residual_NK.sum(0)
            return float(loss) / rows + 0.5 * penalty * float(weight_VK.square().sum()), gradient

        start = torch.zeros(weighed_NV.shape[1] + 1, self._outputs)
        found = lbfgs.minimise(
            evaluate, start, inverse_curvature=inverse_curvature, check_stop=self._check_stop
        ).point.numpy()
        return found[:-1], found[-1]


def _factorise(weighed_NV: sparse.csr_matrix) -> tuple[Tensor, Tensor | None]:
    """Return F (N, N) float32 with F Fᵀ = X Xᵀ + jitter, and F⁻ᵀ in float64; None for it: F is lower triangular.

    Texts made from templates have N rows in far fewer dimensions. The rounding of float32 products (about 1e-7) may
    then outweigh the jitter, and Cholesky's method meets a negative pivot. Products in float64 and eigenvalues that are
    clipped at the jitter have a factor whatever the rows are; it costs ten times as much, so it is for those alone.
    """
    gram_NN = torch.from_numpy((weighed_NV @ weighed_NV.T).toarray()).double()
    gram_NN.diagonal().add_(_JITTER)
    lower_NN, failed = torch.linalg.cholesky_ex(gram_NN)
    if not int(failed):
        return lower_NN.float(), None
    exact_NV = weighed_NV.astype(np.float64)
    gram_NN = torch.from_numpy((exact_NV @ exact_NV.T).toarray())
    values_N, axes_NN = torch.linalg.eigh((gram_NN + gram_NN.T) / 2)
    lengths_N = values_N.clamp(min=0.0).add(_JITTER).sqrt()
    return (axes_NN * lengths_N).float(), axes_NN / lengths_N
