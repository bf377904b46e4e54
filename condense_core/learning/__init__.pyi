from .condensation import Condensation as Condensation
from .criteria import scores as scores
from .descent import learning_rate as learning_rate, momentum_descent as momentum_descent
from .forked import Masks as Masks, condensation_of as condensation_of
from .layers import dense as dense, learn_groups as learn_groups
from .report import Layer as Layer, LearnedGroups as LearnedGroups
